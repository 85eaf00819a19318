package srtp

import (
	"bytes"
	"encoding"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestSecretsAreNotPrinted tries every verb and encoder on everything that
// holds key material, by value, by pointer and inside other values.
func TestSecretsAreNotPrinted(t *testing.T) {
	eachProfile(t, func(t *testing.T, p Profile) {
		key, salt := testMaster(p)
		k, err := NewKeys(p, key, salt)
		if err != nil {
			t.Fatal(err)
		}
		c := newTestContext(t, p, Sender)
		s := stream(t, c, 1)
		type inner struct { // fmt calls no methods of unexported fields
			k Keys
			c *Context
			v Context
			s *Stream
		}
		leaks := func(out string) bool {
			for _, secret := range [][]byte{key, salt} {
				dec := strings.Trim(fmt.Sprint(secret), "[]")
				for _, form := range []string{
					string(secret), hex.EncodeToString(secret), dec,
					strings.ReplaceAll(dec, " ", ","), strings.ReplaceAll(dec, " ", ", "),
					strings.Trim(fmt.Sprintf("%#v", secret), "[]byte{}"), fmt.Sprintf("% x", secret),
					strings.Trim(fmt.Sprintf("%o", secret), "[]"), strings.Trim(fmt.Sprintf("%b", secret), "[]"),
				} {
					if strings.Contains(strings.ToLower(out), strings.ToLower(form)) {
						return true
					}
				}
			}
			return false
		}
		if !leaks(fmt.Sprint(k.m.material)) {
			t.Fatal("the test does not find a key that is printed")
		}
		for _, v := range []any{k, &k, c, *c, s, []any{k, c}, map[string]any{"k": k, "c": c}, inner{k, c, *c, s}, &inner{k, c, *c, s}, []inner{{k, c, *c, s}}, struct{ K Keys }{k}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%e"} {
				if out := fmt.Sprintf(verb, v); leaks(out) {
					t.Errorf("%s prints the key of a %T", verb, v)
				}
			}
			var log bytes.Buffer
			slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
			slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
			if leaks(log.String()) {
				t.Errorf("slog prints the key of a %T", v)
			}
		}
		if got := fmt.Sprintf("%d %v", k, c); got != "[redacted] [redacted]" {
			t.Errorf("printed as %q", got)
		}
		for _, v := range []any{k, &k, c} {
			if _, err := json.Marshal(v); err == nil {
				t.Errorf("JSON of a %T", v)
			}
			if _, err := xml.Marshal(v); err == nil {
				t.Errorf("XML of a %T", v)
			}
			if err := gob.NewEncoder(new(bytes.Buffer)).Encode(v); err == nil {
				t.Errorf("gob of a %T", v)
			}
			if _, err := v.(encoding.TextMarshaler).MarshalText(); err == nil {
				t.Errorf("text of a %T", v)
			}
			if _, err := v.(encoding.BinaryMarshaler).MarshalBinary(); err == nil {
				t.Errorf("binary of a %T", v)
			}
			if got := v.(slog.LogValuer).LogValue().String(); got != "[redacted]" {
				t.Errorf("logged as %q", got)
			}
		}
	})
}
