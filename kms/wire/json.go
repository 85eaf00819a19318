package wire

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// cursor reads one JSON text (RFC 8259), strictly: names are unique, text is valid UTF-8 without lone surrogates, integers are
// integers. It is used instead of encoding/json because that copies what it reads into buffers of its own, where keys would stay,
// and takes the last of two members with one name. After the first error everything it returns is zero.
type cursor struct {
	b   []byte
	i   int
	err *Error
}

// maxMembers and maxDepth bound what is skipped.
const (
	maxMembers = 32
	maxDepth   = 8
)

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = Refuse(StatusBadRequest, fmt.Sprintf(format, args...))
	}
}

func (c *cursor) ok() bool { return c.err == nil }

// next returns the next byte that is no white space, 0 at the end.
func (c *cursor) next() byte {
	for c.i < len(c.b) {
		switch c.b[c.i] {
		case ' ', '\t', '\r', '\n':
			c.i++
		default:
			return c.b[c.i]
		}
	}
	return 0
}

// take reads one punctuation mark if it is the one.
func (c *cursor) take(mark byte) bool {
	if c.err == nil && c.next() == mark {
		c.i++
		return true
	}
	return false
}

func (c *cursor) want(mark byte, what string) {
	if !c.take(mark) {
		c.fail("%s expected", what)
	}
}

// object reads an object and calls member for the value of each name.
func (c *cursor) object(member func(name string)) {
	var seen []string
	c.want('{', "an object")
	for first := true; c.ok() && !c.take('}'); first = false {
		if !first {
			c.want(',', "a comma")
		}
		name := c.text("a name", 64)
		c.want(':', "a colon")
		if slices.Contains(seen, name) {
			c.fail("a member stands twice")
		}
		if seen = append(seen, name); len(seen) > maxMembers {
			c.fail("an object has too many members")
		}
		if c.ok() {
			member(name)
		}
	}
}

// array reads an array and calls element for each value.
func (c *cursor) array(what string, most int, element func()) {
	c.want('[', "an array for "+what)
	for n := 0; c.ok() && !c.take(']'); n++ {
		if n > 0 {
			c.want(',', "a comma")
		}
		if n == most {
			c.fail("%s: more than %d", what, most)
		}
		if c.ok() {
			element()
		}
	}
}

// span reads a string and returns what is between its quotation marks, escapes as they are.
func (c *cursor) span(what string) []byte {
	c.want('"', "a string for "+what)
	if !c.ok() {
		return nil
	}
	for begin := c.i; c.i < len(c.b); c.i++ {
		switch b := c.b[c.i]; {
		case b == '"':
			c.i++
			return c.b[begin : c.i-1]
		case b == '\\':
			c.i++
		case b < ' ':
			c.fail("%s: a control character", what)
			return nil
		}
	}
	c.fail("%s: a string without an end", what)
	return nil
}

// text reads a string of 1 to most bytes.
func (c *cursor) text(what string, most int) string {
	s := c.span(what)
	if !c.ok() {
		return ""
	}
	out, ok := unescape(s)
	switch {
	case !ok || !utf8.ValidString(out):
		c.fail("%s: not a string", what)
	case out == "" || len(out) > most:
		c.fail("%s: want 1 to %d bytes", what, most)
	}
	if !c.ok() {
		return ""
	}
	return out
}

func unescape(s []byte) (string, bool) {
	if !slices.Contains(s, '\\') {
		return string(s), true
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		if i++; i == len(s) {
			return "", false
		}
		switch s[i] {
		case '"', '\\', '/':
			out = append(out, s[i])
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, ok := hex4(s[i+1:])
			if !ok {
				return "", false
			}
			i += 4
			if utf16.IsSurrogate(r) {
				if len(s) < i+3 || s[i+1] != '\\' || s[i+2] != 'u' {
					return "", false
				}
				low, ok := hex4(s[i+3:])
				if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
					return "", false
				}
				i += 6
			}
			out = utf8.AppendRune(out, r)
		default:
			return "", false
		}
	}
	return string(out), true
}

func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for _, b := range s[:4] {
		switch {
		case '0' <= b && b <= '9':
			r = r<<4 | rune(b-'0')
		case 'a' <= b && b <= 'f':
			r = r<<4 | rune(b-'a'+10)
		case 'A' <= b && b <= 'F':
			r = r<<4 | rune(b-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// integer reads a number from 1 to most, written without fraction or exponent.
func (c *cursor) integer(what string, most int) int {
	c.next()
	begin := c.i
	for c.i < len(c.b) && '0' <= c.b[c.i] && c.b[c.i] <= '9' {
		c.i++
	}
	digits := c.b[begin:c.i]
	n, err := strconv.Atoi(string(digits))
	if err != nil || n < 1 || n > most || digits[0] == '0' {
		c.fail("%s: want an integer from 1 to %d", what, most)
	}
	if !c.ok() {
		return 0
	}
	return n
}

func (c *cursor) boolean(what string) bool {
	c.next()
	for _, v := range []bool{true, false} {
		if word := strconv.FormatBool(v); c.ok() && len(c.b)-c.i >= len(word) && string(c.b[c.i:c.i+len(word)]) == word {
			c.i += len(word)
			return v
		}
	}
	c.fail("%s: want true or false", what)
	return false
}

// base64 is RFC 4648 §5 without padding.
var encoding = base64.RawURLEncoding.Strict()

// bytes reads a string in base64url of exactly len(dst) bytes into dst. It makes no copy.
func (c *cursor) bytes(what string, dst []byte) {
	s := c.span(what)
	if !c.ok() {
		return
	}
	if len(s) != encoding.EncodedLen(len(dst)) {
		c.fail("%s: want %d bytes in base64url", what, len(dst))
		return
	}
	if n, err := encoding.Decode(dst, s); err != nil || n != len(dst) {
		clear(dst)
		c.fail("%s: want %d bytes in base64url", what, len(dst))
	}
}

// dateTime is RFC 3339 in UTC, to the microsecond.
const dateTime = "2006-01-02T15:04:05.999999Z"

func (c *cursor) time(what string) time.Time {
	s := c.text(what, len(dateTime))
	if !c.ok() {
		return time.Time{}
	}
	t, err := time.Parse(dateTime, s)
	if err != nil || t.Format(dateTime) != s {
		c.fail("%s: want a time as 2026-01-02T15:04:05Z", what)
		return time.Time{}
	}
	return t
}

// skip reads any value.
func (c *cursor) skip(depth int) {
	if depth == maxDepth {
		c.fail("too deep")
		return
	}
	switch b := c.next(); {
	case b == '{':
		c.object(func(string) { c.skip(depth + 1) })
	case b == '[':
		c.array("a value", MaxText, func() { c.skip(depth + 1) })
	case b == '"':
		if _, ok := unescape(c.span("a value")); !ok {
			c.fail("a value: not a string")
		}
	case b == 't' || b == 'f':
		c.boolean("a value")
	case b == 'n' && len(c.b)-c.i >= 4 && string(c.b[c.i:c.i+4]) == "null":
		c.i += 4
	default:
		c.number()
	}
}

// number skips a number, RFC 8259 §6.
func (c *cursor) number() {
	digits := func() bool {
		begin := c.i
		for c.i < len(c.b) && '0' <= c.b[c.i] && c.b[c.i] <= '9' {
			c.i++
		}
		return c.i > begin
	}
	at := func(set ...byte) bool {
		if c.i < len(c.b) && slices.Contains(set, c.b[c.i]) {
			c.i++
			return true
		}
		return false
	}
	at('-')
	good := at('0') || digits()
	if good && at('.') {
		good = digits()
	}
	if good && at('e', 'E') {
		at('+', '-')
		good = digits()
	}
	if !good {
		c.fail("a value expected")
	}
}

// end refuses what stands behind the text.
func (c *cursor) end() {
	if c.ok() && c.next() != 0 || c.ok() && c.i != len(c.b) {
		c.fail("something stands behind the text")
	}
}

// writer appends a JSON text. A buffer that has become too small is overwritten before it is let go: keys are written here.
type writer struct{ b []byte }

func (w *writer) room(n int) {
	if cap(w.b)-len(w.b) >= n {
		return
	}
	grown := make([]byte, len(w.b), 2*cap(w.b)+n+512)
	copy(grown, w.b)
	clear(w.b[:cap(w.b)])
	w.b = grown
}

func (w *writer) raw(s string) {
	w.room(len(s))
	w.b = append(w.b, s...)
}

// begin opens an object or array, end closes it.
func (w *writer) begin(mark string) { w.comma(); w.raw(mark) }
func (w *writer) end(mark string)   { w.raw(mark) }

// comma separates from what stands before.
func (w *writer) comma() {
	if len(w.b) == 0 {
		return
	}
	switch w.b[len(w.b)-1] {
	case '{', '[', ':':
	default:
		w.raw(",")
	}
}

func (w *writer) name(name string) {
	w.comma()
	w.raw(`"` + name + `":`)
}

// text writes a string; unlike others it has no place for secrets.
func (w *writer) text(s string) {
	w.comma()
	w.raw(`"`)
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			w.raw(`\` + string(r))
		case r < ' ':
			w.raw(fmt.Sprintf(`\u%04x`, r))
		default:
			w.raw(string(r))
		}
	}
	w.raw(`"`)
}

func (w *writer) integer(n int) { w.comma(); w.raw(strconv.Itoa(n)) }

func (w *writer) bytes(b []byte) {
	w.comma()
	w.raw(`"`)
	w.room(encoding.EncodedLen(len(b)))
	w.b = encoding.AppendEncode(w.b, b)
	w.raw(`"`)
}

// member writes a string that may be left out.
func (w *writer) member(name, s string) {
	if s != "" {
		w.name(name)
		w.text(s)
	}
}

func (w *writer) count(name string, n int) {
	if n != 0 {
		w.name(name)
		w.integer(n)
	}
}

func (w *writer) time(name string, t time.Time) {
	if !t.IsZero() {
		w.name(name)
		w.text(t.UTC().Format(dateTime))
	}
}

func (w *writer) uri(name string, u URI) {
	if u != (URI{}) {
		w.name(name)
		w.text(u.String())
	}
}

// padTo is the step in which texts grow: the length of a frame is all that a relay learns of what is in it.
const padTo = 256

// pad ends a text that began at an offset with white space.
func (w *writer) pad(begin int) []byte {
	n := -(len(w.b) - begin) & (padTo - 1)
	w.room(n)
	for range n {
		w.b = append(w.b, ' ')
	}
	return w.b
}
