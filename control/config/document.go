package config

import (
	"fmt"
	"iter"
	"reflect"
	"strconv"
	"strings"
)

// section is a table of the document.
type section struct {
	name, doc string
	live      bool
	value     reflect.Value
}

// entry is a key of the document.
type entry struct {
	key   string // with its section: server.listen
	doc   string
	value reflect.Value
}

// sections yields the tables of a Config, or of one of its two parts, in
// their order.
func sections(of any) iter.Seq[section] {
	return func(yield func(section) bool) {
		parts := []reflect.Value{reflect.ValueOf(of)}
		if c, whole := of.(Config); whole {
			parts = []reflect.Value{reflect.ValueOf(c.Static), reflect.ValueOf(c.Live)}
		}
		for _, part := range parts {
			for i := range part.NumField() {
				f := part.Type().Field(i)
				if !yield(section{
					name: f.Tag.Get("toml"), doc: f.Tag.Get("doc"),
					live: part.Type() == reflect.TypeFor[Live](), value: part.Field(i),
				}) {
					return
				}
			}
		}
	}
}

func (s section) entries() iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for i := range s.value.NumField() {
			f := s.value.Type().Field(i)
			if !yield(entry{key: s.name + "." + f.Tag.Get("toml"), doc: f.Tag.Get("doc"), value: s.value.Field(i)}) {
				return
			}
		}
	}
}

func entries(of any) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for s := range sections(of) {
			for e := range s.entries() {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// Document returns the annotated file that says exactly what c says.
func Document(c Config) string {
	var b strings.Builder
	comment(&b, "Sotto. Every key with its default; leave out what you do not change. `sotto config check FILE` says with line numbers what is wrong with a file.")
	for s := range sections(c) {
		b.WriteByte('\n')
		comment(&b, s.doc)
		if s.live {
			comment(&b, "Read again on SIGHUP.")
		}
		b.WriteString("[" + s.name + "]\n")
		for e := range s.entries() {
			b.WriteByte('\n')
			comment(&b, e.doc)
			_, key, _ := strings.Cut(e.key, ".")
			b.WriteString(key + " = " + literal(e.value) + "\n")
		}
	}
	return b.String()
}

// literal writes a value as TOML. The kinds are those of the struct: another
// one is a mistake in this package, which its tests show.
func literal(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return basicString(v.String())
	case reflect.Int:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = literal(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Struct:
		items := make([]string, v.NumField())
		for i := range items {
			items[i] = v.Type().Field(i).Tag.Get("toml") + " = " + literal(v.Field(i))
		}
		return "{ " + strings.Join(items, ", ") + " }"
	}
	panic("config: no literal for " + v.Kind().String())
}

// basicString quotes as TOML does, which knows fewer escapes than Go.
func basicString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// comment writes text as comment lines of at most 80 columns.
func comment(b *strings.Builder, text string) {
	width := 0
	for _, word := range strings.Fields(text) {
		if width > 0 && width+1+len(word) > 80 {
			b.WriteByte('\n')
			width = 0
		}
		if width == 0 {
			b.WriteByte('#')
			width = 1
		}
		b.WriteString(" " + word)
		width += 1 + len(word)
	}
	b.WriteByte('\n')
}
