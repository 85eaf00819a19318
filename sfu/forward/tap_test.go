package forward_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pionrtcp "github.com/pion/rtcp"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/tap"
)

// drain describes what came out of a ring: the text of packets with their layer, the kind of everything else.
func drain(ring *tap.Ring) (out []string) {
	names := map[tap.Kind]string{tap.Report: "report", tap.Muted: "muted", tap.Unmuted: "unmuted", tap.End: "end"}
	var rec tap.Record
	for ring.Take(&rec) {
		if rec.Kind != tap.Packet {
			out = append(out, names[rec.Kind])
			continue
		}
		var h rtp.Header
		h.Parse(rec.Data)
		text := string(rec.Data[h.HeaderLen+2:])
		if rec.Key {
			text += " key"
		}
		out = append(out, text+strings.Repeat("'", int(rec.Layer)))
	}
	return out
}

// A tap sees a track that nobody else watches: packets as they came, from a key frame on, with mutes and reports in their place,
// and it makes the router ask for what is missing.
func TestTap(t *testing.T) {
	r := newRig(t)
	alice := r.join(1, theirs)
	camera, cam := alice.video("0", cameraSSRC, cameraRTX)
	cam.push(delta("too early"))
	ring := tap.NewRing(1 << 16)
	x := camera.Tap(ring, r.now)
	if alice.pli() != 1 {
		t.Error("no key frame asked for")
	}
	cam.push(delta("waits"))
	cam.push(key("one"))
	cam.push(delta("two"))
	alice.report(&pionrtcp.SenderReport{SSRC: cameraSSRC, NTPTime: 77 << 32, RTPTime: 99})
	cam.next(delta("three")) // lost
	cam.push(delta("four"))
	r.run(50 * ms)
	if n := len(reports[*pionrtcp.TransportLayerNack](alice)); n == 0 {
		t.Error("what was lost is not asked for")
	}
	alice.deliver(cam.repair(cam.seq - 1))
	camera.SetMuted(true, r.now)
	cam.push(delta("private"))
	camera.SetMuted(false, r.now)
	cam.push(key("five"))
	r.run(600 * ms)
	alice.pli()
	x.RequestKey(r.now)
	if alice.pli() == 0 {
		t.Error("the reader's wish for a key frame is not passed on")
	}
	x.Close(r.now)
	x.Close(r.now)
	cam.push(delta("after"))
	camera.Close(r.now)

	want := []string{"one key", "two", "report", "four", "three", "muted", "unmuted", "five key", "end"}
	if d := cmp.Diff(want, drain(ring)); d != "" {
		t.Error(d)
	}
}

// A tap follows the best layer of a simulcast: up at a key frame, and meanwhile what there was.
func TestTapSimulcast(t *testing.T) {
	r := newRig(t)
	alice := r.join(1, theirs)
	camera := alice.peer.NewTrack(forward.TrackConfig{MID: "0", Kind: rtp.KindVideo, Codecs: []forward.CodecMap{vp8}, RIDs: []string{"q", "h"}})
	of := func(ssrc uint32, rid string) *source {
		return alice.source(ssrc, 0, vp8, element{theirs.MID, []byte("0")}, element{theirs.RID, []byte(rid)})
	}
	low, high := of(1, "q"), of(2, "h")
	ring := tap.NewRing(1 << 16)
	camera.Tap(ring, r.now)
	low.push(key("a"))
	low.push(delta("b"))
	high.push(delta("no key"))
	low.push(delta("c"))
	high.push(key("d"))
	low.push(delta("left out"))
	high.push(delta("e"))
	for range 15 { // the high layer stops
		r.run(100 * ms)
		low.push(delta("?"))
	}
	low.push(key("f"))
	low.push(delta("g"))
	camera.Close(r.now)
	got := drain(ring)
	want := []string{"a key", "b", "c", "d key'", "e'", "f key", "g", "end"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A stream that never shows a key frame, because it is encrypted, is recorded all the same, after a while.
func TestTapOpaque(t *testing.T) {
	r := newRig(t)
	alice := r.join(1, theirs)
	camera, cam := alice.video("0", cameraSSRC, cameraRTX)
	ring := tap.NewRing(1 << 16)
	camera.Tap(ring, r.now)
	cam.stream(350, delta("x"))
	if n := len(drain(ring)); n < 40 || n > 60 {
		t.Errorf("%d packets after 3.5 s, want those of the last half second", n)
	}
}

// A reader that does not read costs packets, not the path.
func TestTapSlowReader(t *testing.T) {
	r := newRig(t)
	alice := r.join(1, theirs)
	mic, voice := alice.audio("0", micSSRC)
	ring := tap.NewRing(0)
	mic.Tap(ring, r.now)
	payload := make([]byte, 1000)
	for range 40 {
		voice.push(payload)
	}
	mic.SetMuted(true, r.now)
	n, lost := 0, 0
	var rec tap.Record
	for ring.Take(&rec) {
		n, lost = n+1, lost+int(rec.Lost)
	}
	if rec.Kind != tap.Muted || lost == 0 || n-1+lost != 40 {
		t.Errorf("%d records, %d lost, the last of kind %d", n, lost, rec.Kind)
	}
}
