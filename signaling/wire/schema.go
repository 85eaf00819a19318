package wire

import (
	"reflect"
	"strconv"
	"strings"
)

// field is one field of a message, as the decoder and the generator of the web client's types see it.
type field struct {
	name     string
	index    int
	optional bool
	limit    int
	unit     string // of limit: "bytes", "characters" or "items"; empty: no limit
}

// fields lists the fields of a message type. It panics on a tag that it does not understand: that is a fault of this package,
// found by its first test.
func fields(t reflect.Type) []field {
	list := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		sf := t.Field(i)
		name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
		f := field{name: name, index: i, optional: options == "omitempty"}
		if limit, ok := sf.Tag.Lookup("limit"); ok {
			n, unit, _ := strings.Cut(limit, " ")
			v, err := strconv.Atoi(n)
			if err != nil || (unit != "bytes" && unit != "characters" && unit != "items") {
				panic("wire: bad limit of " + t.Name() + "." + sf.Name)
			}
			f.limit, f.unit = v, unit
		}
		list = append(list, f)
	}
	return list
}

// enumeration is a string type with known values.
type enumeration interface{ Values() []string }

var enumerationType = reflect.TypeFor[enumeration]()
