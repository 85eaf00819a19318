package stun

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// A key cannot leave by accident: not by any formatting verb, by itself, by value, or inside of
// something, not by an encoder and not by a logger.
func TestKeyIsUnprintable(t *testing.T) {
	const password = "SeCrEtSeCrEtSeCrEtSeCrEt"
	k := NewKey(password)
	type session struct {
		Name string
		K    *Key
		key  Key
	}
	s := session{"s", k, *k}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%c", "%U", "%t", "%p"} {
		for _, v := range []any{k, *k, &k, s, &s, []*Key{k}, []Key{*k}, map[string]Key{"a": *k}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, v := range []any{k, *k, s, s.key} {
		for _, marshal := range []func(any) ([]byte, error){json.Marshal, xml.Marshal} {
			b, err := marshal(v)
			if err == nil {
				t.Errorf("%T was marshalled", v)
			}
			out.Write(b)
		}
	}
	var buf bytes.Buffer
	if gob.NewEncoder(&buf).Encode(k) == nil {
		t.Error("gob took a key")
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&buf, nil), slog.NewJSONHandler(&buf, nil)} {
		slog.New(h).Info("x", "key", k, "value", *k, "session", s)
	}
	out.Write(buf.Bytes())
	for _, form := range []string{
		password, fmt.Sprintf("%x", password), fmt.Sprintf("%X", password),
		strings.Trim(fmt.Sprint([]byte(password)), "[]"),
	} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the key leaks as %q", form)
		}
	}
	if !strings.Contains(out.String(), "redacted") {
		t.Error("nothing says redacted")
	}
}

// A key's scratch state carries nothing from one use to the next.
func TestKeyReuse(t *testing.T) {
	k := NewKey(vectorPassword)
	request, response := parse(t, vectorRequest), parse(t, vectorResponse4)
	wrong := append([]byte(nil), vectorRequest...)
	wrong[30] ^= 1
	for range 3 {
		if !request.CheckIntegrity(k) || !response.CheckIntegrity(k) {
			t.Fatal("does not verify")
		}
		if k.verify(wrong[:request.integrity], request.value(request.integrity)) {
			t.Fatal("a changed message verifies")
		}
	}
}

func TestKeyLengths(t *testing.T) {
	for _, n := range []int{0, 1, 22, 63, 64, 65, 256} { // around the block of SHA-1
		k := NewKey(strings.Repeat("k", n))
		if m := parse(t, check(nil, TxID{9}, k)); !m.CheckIntegrity(k) || m.CheckIntegrity(NewKey(strings.Repeat("k", n+1))) {
			t.Errorf("password of %d bytes", n)
		}
	}
}
