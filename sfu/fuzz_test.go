package sfu_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/sfu/transport/transporttest"
)

// taker is a node that takes hand-overs in, with one that it has written itself, and a track that somebody is shown in it.
func taker(t testing.TB) (*fixture, sfu.TrackID, sfu.Handover) {
	t.Helper()
	f := start(t, func(c *sfu.Config) { c.Secret = transporttest.UfragKey(t) })
	a, b := f.join("a", mic, camera), f.join("b", mic)
	a.answer(1)
	b.answer(1)
	shown := a.track(sfu.Camera)
	if err := b.Subscribe(f.ctx, []sfu.TrackID{a.track(sfu.Microphone), shown}); err != nil {
		t.Fatal(err)
	}
	if err := a.Restart(f.ctx); err != nil {
		t.Fatal(err)
	}
	h, err := f.node.Conference("room").Export(f.ctx, sfu.Copy)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.node.Conference("room").Close(f.ctx); err != nil {
		t.Fatal(err)
	}
	return f, shown, h
}

// takeIn lets the node take b in, which is refused as what it is or leaves nothing behind.
func (f *fixture) takeIn(t *testing.T, b []byte, skip uint64) {
	t.Helper()
	s, err := f.node.Import(t.Context(), sfu.NewHandover(b), sfu.ImportOptions{Skip: skip})
	if err == nil {
		err = s.Close(t.Context())
	} else if errors.Is(err, sfu.ErrState) {
		err = nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if st, err := f.node.Stats(t.Context()); err != nil || st.Endpoints != 0 || st.Conferences != 0 || st.BuffersInUse != 0 {
		t.Fatalf("left behind: %+v, %v", st, err)
	}
}

// Whatever one byte is wrong, alone or beside a track that is not the one it was, nothing is left and nothing falls over.
func TestHandoverWithAWrongByte(t *testing.T) {
	f, shown, h := taker(t)
	whole, step := h.Expose(), 1
	if testing.Short() {
		step = 7
	}
	places := []int{-1}
	for i := range whole { // of the one track that is shown in a slot: where it is published, shown and wanted
		if bytes.HasPrefix(whole[i:], []byte(shown)) {
			places = append(places, i)
		}
	}
	if len(places) != 4 {
		t.Fatalf("the track stands at %v", places[1:])
	}
	for _, p := range places {
		b := bytes.Clone(whole)
		if p >= 0 {
			b[p] ^= 1
		}
		for i := 0; i < len(b); i += step {
			b[i] ^= 1
			f.takeIn(t, b, 0)
			b[i] ^= 1
		}
	}
}

func FuzzImport(f *testing.F) {
	n, _, h := taker(f)
	f.Add(h.Expose(), uint64(0))
	f.Add(h.Expose()[:len(h.Expose())/2], uint64(4096))
	f.Add([]byte{}, uint64(0))
	f.Fuzz(n.takeIn)
}
