package handshake

import (
	"encoding/binary"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// ends are both sides of one association.
func ends(keyLen uint8) (server, client *parked) {
	server, client = &parked{recordKeys: &recordKeys{keyLen: keyLen}}, &parked{recordKeys: &recordKeys{keyLen: keyLen}}
	copy(server.readKey[:], "what the client writes with.....")
	copy(server.writeKey[:], "what the server writes with.....")
	copy(server.readSalt[:], "abcd")
	copy(server.writeSalt[:], "efgh")
	client.readKey, client.writeKey = server.writeKey, server.readKey
	client.readSalt, client.writeSalt = server.writeSalt, server.readSalt
	return server, client
}

// seal makes a record of the client's.
func (p *parked) seal(kind byte, plain []byte) []byte {
	b := make([]byte, headerLen+explicitLen)
	b[0], b[1], b[2] = kind, 0xfe, 0xfd
	binary.BigEndian.PutUint64(b[3:], sealedEpoch<<48|p.next)
	binary.BigEndian.PutUint64(b[headerLen:], 0x0123456789abcdef^p.next) // a client may choose it as it likes
	p.next++
	aad := additional(b, len(plain))
	binary.BigEndian.PutUint16(b[11:], uint16(explicitLen+len(plain)+tagLen))
	return newAEAD(p.writeKey[:p.keyLen]).Seal(b, nonce(&p.writeSalt, b[headerLen:]), plain, aad)
}

func TestVerdicts(t *testing.T) {
	for _, keyLen := range []uint8{16, 32} {
		server, client := ends(keyLen)
		fin := append([]byte{finished, 0, 0, 12}, make([]byte, 20)...)
		for _, tc := range []struct {
			name     string
			datagram []byte
			want     verdict
			refused  int
		}{
			{"nothing", nil, nothing, 0},
			{"finished", client.seal(typeHandshake, fin), again, 0},
			{"finished behind a flight in the clear", append([]byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0}, client.seal(typeHandshake, fin)...), again, 0},
			{"hello", client.seal(typeHandshake, []byte{1, 0, 0, 0}), nothing, 0},
			{"application data", client.seal(23, []byte("hello")), nothing, 0},
			{"warning", client.seal(typeAlert, []byte{warning, 41}), nothing, 0},
			{"half an alert", client.seal(typeAlert, []byte{fatal}), nothing, 0},
			{"cut", client.seal(typeAlert, []byte{fatal, 40})[:30], nothing, 1},
			{"another version", append([]byte{21, 3, 3}, client.seal(typeAlert, []byte{fatal, 40})[3:]...), nothing, 1},
			{"close_notify in the clear", []byte{21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 8, 0, 2, 1, 0}, nothing, 0},
			{"own record sent back", server.farewell(), nothing, 1},
			{"fatal alert", client.seal(typeAlert, []byte{fatal, 40}), closed, 0},
			{"close_notify", client.farewell(), closed, 0},
			{"last flight, then close_notify", append(client.seal(typeHandshake, fin), client.farewell()...), closed, 0},
		} {
			before := slices.Clone(tc.datagram)
			v, refused := server.receive(tc.datagram, nil)
			if v != tc.want || refused != tc.refused {
				t.Errorf("%s: %v and %d refused, want %v and %d", tc.name, v, refused, tc.want, tc.refused)
			}
			if !slices.Equal(before, tc.datagram) {
				t.Errorf("%s: the datagram has been changed", tc.name)
			}
			if tc.want == nothing {
				continue
			}
			if v, refused := server.receive(tc.datagram, nil); v != nothing || refused == 0 {
				t.Errorf("%s, a copy: %v and %d refused", tc.name, v, refused)
			}
		}
	}
}

// The window of RFC 6347 §4.1.2.6: each record once, in any order, as far as 63 behind
// the newest; and a record that is not authentic does not move it.
func TestReplayWindow(t *testing.T) {
	server, client := ends(16)
	var records [][]byte
	for range 200 {
		records = append(records, client.farewell())
	}
	forged := slices.Clone(records[199])
	forged[len(forged)-1]++
	server.receive(forged, nil)
	for _, step := range []struct {
		record int
		want   verdict
	}{
		{10, closed},
		{9, closed},
		{10, nothing},
		{9, nothing},
		{0, closed},
		{73, closed},
		{10, nothing},
		{11, closed},
		{9, nothing},
		{8, nothing},
		{199, closed},
		{135, nothing},
		{136, closed},
		{136, nothing},
		{198, closed},
		{199, nothing},
		{198, nothing},
	} {
		if v, _ := server.receive(records[step.record], nil); v != step.want {
			t.Errorf("record %d: %v, want %v", step.record, v, step.want)
		}
	}
}

func TestParkedIsNotPrinted(t *testing.T) {
	server, _ := ends(32)
	for _, v := range []any{server, *server} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			if got := fmt.Sprintf(verb, v); got != "[redacted]" {
				t.Errorf("%s prints %q", verb, got)
			}
		}
		if b, err := json.Marshal(v); err == nil {
			t.Errorf("json: %s", b)
		}
		if gob.NewEncoder(io.Discard).Encode(v) == nil {
			t.Error("gob has encoded it")
		}
	}
	holder := struct{ inside *parked }{server}
	if got := fmt.Sprintf("%+v %#v", holder, holder); strings.Contains(got, "119") || strings.Contains(got, "what") {
		t.Errorf("printed by reflection: %q", got)
	}
	server.wipe()
	if *server.recordKeys != (recordKeys{}) {
		t.Error("keys are left")
	}
}

// Whatever comes, without the client's key it has no effect and changes nothing.
func FuzzRecords(f *testing.F) {
	_, client := ends(16)
	whole := client.farewell()
	f.Add(whole)
	f.Add(append(slices.Clone(whole), client.seal(typeHandshake, []byte{finished, 0, 0, 0})...))
	f.Add([]byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{21, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		server, _ := ends(16)
		server.readKey[0]++ // so that no seed is authentic
		v, _ := server.receive(datagram, nil)
		if v != nothing || server.seen != 0 || server.top != 0 || server.next != 0 {
			t.Errorf("verdict %v, window %d %x", v, server.top, server.seen)
		}
	})
}

// What a forged record costs the packet thread.
func BenchmarkForgedRecord(b *testing.B) {
	server, client := ends(16)
	record := client.farewell()
	record[len(record)-1]++
	b.ReportAllocs()
	for b.Loop() {
		if v, _ := server.receive(record, nil); v != nothing {
			b.Fatal(v)
		}
	}
}
