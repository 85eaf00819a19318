package channel

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzFrames reads any bytes as each kind of frame: what is read is written again as it was.
func FuzzFrames(f *testing.F) {
	i, p := pair(f)
	_, open, err := Open(p, P256)
	if err != nil {
		f.Fatal(err)
	}
	_, _, answer, err := Accept([]*Identity{i}, open)
	if err != nil {
		f.Fatal(err)
	}
	for _, frame := range [][]byte{i.Frame(), open, answer, Identify(), Reset(ID{1}, ReasonBusy)} {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		var again []byte
		if v, err := parseIdentityFrame(frame); err == nil {
			again = v.append(nil)
			if s, err := parseStatement(v.statement); err == nil && !bytes.Equal(s.append(nil), v.statement) {
				t.Errorf("statement %x is written otherwise", v.statement)
			}
		} else if v, err := parseOpenFrame(frame); err == nil {
			again = v.append(nil)
		} else if v, err := parseAcceptFrame(frame); err == nil {
			again = append(v.unconfirmed(nil), v.confirm[:]...)
		} else if id, why, err := ParseReset(frame); err == nil {
			again = Reset(id, why)
		} else {
			return
		}
		if !bytes.Equal(again, frame) {
			t.Errorf("read and written again it differs:\n%x\n%x", frame, again)
		}
	})
}

// FuzzHandshake hands any bytes to both sides: none is taken but what the other side has made.
func FuzzHandshake(f *testing.F) {
	a := newAuthority(f)
	i := identity(f, a.config(f))
	p, err := a.trust().Verify(i.Frame(), noon)
	if err != nil {
		f.Fatal(err)
	}
	client, kms := handshake(f, i, p, P256)
	_, open, err := Open(p, P256)
	if err != nil {
		f.Fatal(err)
	}
	_, _, answer, err := Accept([]*Identity{i}, open)
	if err != nil {
		f.Fatal(err)
	}
	frame := seal(f, client, "text")
	for _, b := range [][]byte{i.Frame(), open, answer, frame} {
		f.Add(b)
	}
	mine := i.Frame()
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := a.trust().Verify(b, noon); err == nil && !bytes.Equal(b, mine) {
			t.Error("an identity that nobody signed")
		}
		if _, _, _, err := Accept([]*Identity{i}, b); err == nil && !bytes.Equal(b, open) {
			t.Error("an opening that no client made")
		}
		o, _, err := Open(p, P256)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Finish(b); err == nil {
			t.Error("an answer that the KMS did not give")
		}
		next := kms.in.next
		if _, err := kms.Open(nil, slices.Clone(b)); err == nil && !bytes.Equal(b, frame) {
			t.Error("a frame that the client did not seal")
		}
		kms.in.next = next
	})
}
