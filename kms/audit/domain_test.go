package audit_test

import "testing/fstest"

var attackTables = fstest.MapFS{"00001_none.sql": {Data: []byte("-- +goose Up\nSELECT 1;\n")}}
