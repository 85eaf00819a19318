package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Frame is a decoded request with the id that its reply refers to.
type Frame struct {
	ID      int64
	Request Request
}

var requestTypes = func() map[string]reflect.Type {
	m := map[string]reflect.Type{}
	for _, r := range Requests() {
		m[r.Kind()] = reflect.TypeOf(r).Elem()
	}
	return m
}()

// Decode reads a client's frame. When it fails, the Frame still has the id if that could be read, so that the refusal reaches
// the request it is about.
func Decode(text []byte) (Frame, *Error) {
	var f Frame
	if len(text) > MaxFrameBytes {
		return f, refuse(TooLarge, fmt.Sprintf("the frame has %d bytes, %d are allowed", len(text), MaxFrameBytes), "")
	}
	object, err := decodeObject(text, "the frame")
	if err != nil {
		return f, err
	}
	if err := decodeValue(object["id"], reflect.ValueOf(&f.ID).Elem(), "id"); err != nil {
		f.ID = 0
		return f, err
	}
	if f.ID <= 0 {
		f.ID = 0
		return f, refuse(BadRequest, "field id: want a positive integer", "number requests from 1 upwards")
	}
	var kind string
	if err := decodeValue(object["type"], reflect.ValueOf(&kind).Elem(), "type"); err != nil {
		return f, err
	}
	t, ok := requestTypes[kind]
	if !ok {
		return f, refuse(BadRequest, fmt.Sprintf("unknown type %s", quote(kind)), "see the list of requests of protocol version "+strconv.Itoa(Version))
	}
	v := reflect.New(t)
	if err := decodeStruct(object, v.Elem(), ""); err != nil {
		return f, err
	}
	f.Request = v.Interface().(Request)
	return f, nil
}

// DecodeBody reads the JSON body of an HTTP call into a struct of this package, as strictly as Decode.
func DecodeBody(text []byte, into any) *Error {
	object, err := decodeObject(text, "the body")
	if err != nil {
		return err
	}
	return decodeStruct(object, reflect.ValueOf(into).Elem(), "")
}

func decodeObject(text []byte, what string) (map[string]json.RawMessage, *Error) {
	if !utf8.Valid(text) {
		return nil, refuse(BadRequest, what+" is not UTF-8", "")
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil || object == nil {
		return nil, refuse(BadRequest, what+" is not a JSON object", "")
	}
	return object, nil
}

func decodeStruct(object map[string]json.RawMessage, v reflect.Value, path string) *Error {
	for _, f := range fields(v.Type()) {
		name := path + f.name
		raw, present := object[f.name]
		if !present || isNull(raw) {
			if f.optional {
				continue
			}
			return refuse(BadRequest, "field "+name+" is missing", "")
		}
		into := v.Field(f.index)
		if err := decodeValue(raw, into, name); err != nil {
			return err
		}
		if err := checkLimit(f, into, name); err != nil {
			return err
		}
	}
	return nil
}

func decodeValue(raw json.RawMessage, into reflect.Value, name string) *Error {
	if raw == nil || isNull(raw) {
		return refuse(BadRequest, "field "+name+" is missing", "")
	}
	switch into.Kind() {
	case reflect.String:
		var s string
		if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
			return wrongType(name, "a string")
		}
		into.SetString(s)
		if into.Type().Implements(enumerationType) {
			return checkEnumeration(s, into, name)
		}
	case reflect.Bool:
		switch string(raw) {
		case "true":
			into.SetBool(true)
		case "false":
			into.SetBool(false)
		default:
			return wrongType(name, "a boolean")
		}
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil || n > MaxSafeInteger || n < -MaxSafeInteger {
			return wrongType(name, "an integer")
		}
		into.SetInt(n)
	case reflect.Slice:
		return decodeList(raw, into, name)
	case reflect.Struct:
		if raw[0] != '{' {
			return wrongType(name, "an object")
		}
		object, err := decodeObject(raw, "field "+name)
		if err != nil {
			return err
		}
		return decodeStruct(object, into, name+".")
	default:
		panic("wire: no decoder for " + into.Type().String())
	}
	return nil
}

func decodeList(raw json.RawMessage, into reflect.Value, name string) *Error {
	var items []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &items) != nil {
		return wrongType(name, "a list")
	}
	// The count is checked by the caller too, where the limit is known; here it only keeps the work small.
	into.Set(reflect.MakeSlice(into.Type(), len(items), len(items)))
	if len(items) > MaxTracks {
		return nil
	}
	for i, item := range items {
		if err := decodeValue(item, into.Index(i), name+"["+strconv.Itoa(i)+"]"); err != nil {
			return err
		}
	}
	return nil
}

func checkLimit(f field, v reflect.Value, name string) *Error {
	n := 0
	switch f.unit {
	case "":
		return nil
	case "bytes":
		n = v.Len()
	case "characters":
		n = utf8.RuneCountInString(v.String())
	case "items":
		if n = v.Len(); n > f.limit {
			return refuse(TooMany, fmt.Sprintf("field %s has %d items, %d are allowed", name, n, f.limit), "")
		}
		return nil
	}
	if n > f.limit {
		return refuse(TooLarge, fmt.Sprintf("field %s has %d %s, %d are allowed", name, n, f.unit, f.limit), "")
	}
	return nil
}

func checkEnumeration(s string, v reflect.Value, name string) *Error {
	values := v.Interface().(enumeration).Values()
	for _, known := range values {
		if s == known {
			return nil
		}
	}
	return refuse(BadRequest, fmt.Sprintf("field %s: %s is none of %s", name, quote(s), strings.Join(values, ", ")), "")
}

func wrongType(name, want string) *Error {
	return refuse(BadRequest, "field "+name+": want "+want, "")
}

func refuse(c Code, message, hint string) *Error {
	return &Error{Code: c, Message: message, Hint: hint}
}

func isNull(raw json.RawMessage) bool { return bytes.Equal(raw, []byte("null")) }

// quote makes what a client sent safe and short enough to send it back.
func quote(s string) string {
	const most = 32
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strconv.Quote(s)
}
