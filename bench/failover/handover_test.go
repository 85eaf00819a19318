package failover_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/dtls/v3"

	"github.com/sotto-edge/sotto/bench/failover"
	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// TestHandOver moves a live conference of two clients from one node to another, on another port, by nomination alone: planned,
// where every picture arrives, and after a crash, where the numbering jumps by the lease. Nobody gets an offer on account of it, and
// no index of a key is used twice.
func TestHandOver(t *testing.T) {
	for _, mode := range []failover.Mode{failover.Planned, failover.Crash} {
		for name, profile := range map[string]dtls.SRTPProtectionProfile{
			"GCM": dtls.SRTP_AEAD_AES_128_GCM, "CM": dtls.SRTP_AES128_CM_HMAC_SHA1_80,
		} {
			t.Run(string(mode)+" "+name, func(t *testing.T) { handOver(t, mode, 0, profile) })
		}
	}
}

// TestHandOverSlowly lets nobody serve for a while in between: what the publishers sent meanwhile is asked for again, and the
// receivers' sequence of pictures is whole all the same.
func TestHandOverSlowly(t *testing.T) {
	for _, mode := range []failover.Mode{failover.Planned, failover.Crash} {
		t.Run(string(mode), func(t *testing.T) { handOver(t, mode, 100*time.Millisecond, dtls.SRTP_AEAD_AES_128_GCM) })
	}
}

var screen = client.Publication{Source: wire.Screen}

var sources = []wire.Source{wire.Microphone, wire.Camera}

func handOver(t *testing.T, mode failover.Mode, silence time.Duration, profile dtls.SRTPProtectionProfile) {
	m := newMeeting(t)
	people := []*person{m.join("ada", profile), m.join("bob", profile)}
	for i, p := range people {
		for _, s := range sources {
			eventually(t, "media before", func() bool { return p.count(people[1-i], s) > 80 })
		}
	}
	// Somebody was here and is gone without a word: the others' hand-over does not suffer.
	gone := m.join("dan", profile)
	for _, s := range sources {
		eventually(t, "media", func() bool { return gone.count(people[0], s) > 0 })
	}
	_ = gone.Close()
	eventually(t, "departure", func() bool {
		first, _ := m.lab.Stats(t.Context())
		return first.Endpoints == 2
	})
	offers := m.lab.Offers()
	var before [2]map[wire.Source]int
	for i, p := range people {
		before[i] = map[wire.Source]int{wire.Microphone: p.count(people[1-i], wire.Microphone), wire.Camera: p.count(people[1-i], wire.Camera)}
	}

	report, err := m.lab.HandOver(t.Context(), mode, silence)
	if err != nil {
		t.Fatal(err)
	}
	if report.Sessions != 2 || report.FailedCopies != 0 {
		t.Errorf("%d sessions handed over, %d copies failed", report.Sessions, report.FailedCopies)
	}
	var mark [2]uint32 // numbers that are sent well after the switch
	for i, p := range people {
		p.mu.Lock()
		mark[i] = p.sent[wire.Camera] + 100
		p.mu.Unlock()
	}
	for i, p := range people {
		for _, s := range sources {
			eventually(t, "media after", func() bool { return p.newest(people[1-i], s) >= mark[1-i] })
		}
		// What was lost in between has been asked for and has come.
		eventually(t, "pictures whole", func() bool { return len(holes(p.from(people[1-i], wire.Camera), mark[1-i])) == 0 }, func() {
			_, second := m.lab.Stats(t.Context())
			t.Logf("missing %v of up to %d; %+v", holes(p.from(people[1-i], wire.Camera), mark[1-i]), mark[1-i], second.Forward)
		})
	}
	if diff := cmp.Diff(offers, m.lab.Offers()); diff != "" {
		t.Errorf("offers before and after (-before +after):\n%s", diff)
	}
	for i, p := range people {
		for _, s := range sources {
			check(t, p.from(people[1-i], s), s, mode, before[i][s], mark[1-i])
		}
		p.tap.mu.Lock()
		if p.tap.reused != 0 || p.tap.packets == 0 {
			t.Errorf("%d indices of %d used twice", p.tap.reused, p.tap.packets)
		}
		if p.tap.from[report.To] == 0 || p.tap.to[report.To] == 0 {
			t.Errorf("media came from %v and went to %v, want %v among them", p.tap.from, p.tap.to, report.To)
		}
		p.tap.mu.Unlock()
	}
	_, second := m.lab.Stats(t.Context())
	if silence > 0 && second.Forward.Recovered == 0 {
		t.Errorf("nothing was asked for again: %+v", second.Forward)
	}
	if second.Transport.AuthFailed != 0 {
		t.Errorf("the second node could not open %d packets", second.Transport.AuthFailed)
	}
	t.Logf("the second node asked publishers for %d packets and got %d", second.Forward.NACKsOut, second.Forward.Recovered)
	t.Logf("%s: nominated %v after the end of the first node, by a copy %v old", mode, report.Took.Round(time.Microsecond), report.Age.Round(time.Millisecond))

	// The conference goes on in every respect: somebody joins, and the others get offers from the second node.
	late := m.join("cleo", profile)
	for _, s := range sources {
		eventually(t, "media for who joins later", func() bool { return late.count(people[0], s) > 20 })
	}
	track, err := people[0].Publish(t.Context(), screen)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "an offer of the second node", func() bool { return track.Layers() > 0 })
	n := people[1].newest(people[0], wire.Camera)
	eventually(t, "media after the offer", func() bool { return people[1].newest(people[0], wire.Camera) > n+20 })
}

// holes lists the numbers up to last that did not come.
func holes(got []arrival, last uint32) (out []uint32) {
	have := make(map[uint32]bool)
	first := last
	for _, a := range got {
		have[a.n] = true
		first = min(first, a.n)
	}
	for n := first; n <= last; n++ {
		if !have[n] {
			out = append(out, n)
		}
	}
	return out
}

// check looks at the numbering of one slot around the hand-over. A publisher's number and the leg's go side by side, and the one
// step between them is the lease of a node that died.
func check(t *testing.T, got []arrival, s wire.Source, mode failover.Mode, before int, last uint32) {
	t.Helper()
	missing := holes(got, last)
	var gap time.Duration
	repaired, jumps := 0, 0
	offset := got[0].seq - int64(got[0].n)
	for i, a := range got {
		if a.repaired {
			repaired++
		}
		if i > 0 && i >= before {
			gap = max(gap, a.at.Sub(got[i-1].at))
		}
		step := a.seq - int64(a.n) - offset
		switch {
		case step == 0:
		case mode == failover.Crash && step == failover.Lease && i >= before:
			jumps++
			offset += step
		default:
			t.Fatalf("%s: packet %d (number %d) is %d off in the leg's numbering", s, i, a.n, step)
		}
	}
	if want := map[failover.Mode]int{failover.Planned: 0, failover.Crash: 1}[mode]; jumps != want {
		t.Errorf("%s: the numbering jumps %d times by the lease, want %d", s, jumps, want)
	}
	seen := make(map[int64]bool)
	for _, a := range got {
		if seen[a.seq] {
			t.Errorf("%s: leg's number %d came twice", s, a.seq)
		}
		seen[a.seq] = true
	}
	// Sound is not sent again: what was on its way to the node that went is lost.
	if s == wire.Microphone && len(missing) > 30 {
		t.Errorf("%s: %d packets lost", s, len(missing))
	}
	t.Logf("%-10s gap %v, lost %d, repaired %d of %d", s, gap.Round(100*time.Microsecond), len(missing), repaired, len(got))
}
