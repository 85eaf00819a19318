package sfu_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/sfu/transport/transporttest"
)

// shards is what a Node of a test has. All tests run with one, and with three, over which conferences are spread as far as they go.
var shards int

func TestMain(m *testing.M) {
	for _, shards = range []int{1, 3} {
		if code := m.Run(); code != 0 {
			fmt.Printf("with %d shards\n", shards)
			os.Exit(code)
		}
	}
}

// patience is how long a test waits for what should take microseconds.
const patience = 20 * time.Second

// fixture is a Node on a loopback port, with an observer that keeps what it is told.
type fixture struct {
	t    testing.TB
	node *sfu.Node
	ctx  context.Context

	mu     sync.Mutex
	events []sfu.Event
	came   chan struct{}
	marks  int
}

func (f *fixture) Event(e sfu.Event) {
	f.mu.Lock()
	f.events = append(f.events, e)
	f.mu.Unlock()
	select {
	case f.came <- struct{}{}:
	default:
	}
}

func start(t testing.TB, change ...func(*sfu.Config)) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	f := &fixture{t: t, ctx: ctx, came: make(chan struct{}, 1)}
	cfg := sfu.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Observer: f, Shards: shards, Together: 1}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if f.node, err = sfu.NewNode(cfg, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.node.Close() })
	return f
}

// pair starts two nodes between which conferences can be handed over.
func pair(t testing.TB) (f, g *fixture) {
	t.Helper()
	secret := func(c *sfu.Config) { c.Secret = transporttest.UfragKey(t) }
	return start(t, secret), start(t, secret)
}

// handOver takes the conference from one node to the other, and returns its endpoints there.
func (f *fixture) handOver(g *fixture) map[sfu.ParticipantID]*sfu.Endpoint {
	f.t.Helper()
	h, err := f.node.Conference("room").Export(f.ctx, sfu.Freeze)
	if err != nil {
		f.t.Fatal(err)
	}
	return g.takeOver(h)
}

// takeOver goes on with what was exported elsewhere.
func (f *fixture) takeOver(h sfu.Handover) map[sfu.ParticipantID]*sfu.Endpoint {
	f.t.Helper()
	s, err := f.node.Import(f.ctx, h, sfu.ImportOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	ends, err := s.Activate(f.ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	return ends
}

// until waits for an event.
func (f *fixture) until(what string, is func(sfu.Event) bool) sfu.Event {
	f.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for seen := 0; ; {
		f.mu.Lock()
		events := f.events[seen:]
		seen = len(f.events)
		f.mu.Unlock()
		for _, e := range events {
			if is(e) {
				return e
			}
		}
		select {
		case <-f.came:
		case <-deadline.C:
			f.t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// settle waits until every event of what was called before is here: they come in order, so one more of another conference ends it.
func (f *fixture) settle() {
	f.t.Helper()
	f.marks++
	name := "mark " + time.Duration(f.marks).String()
	e, err := f.node.Conference(name).Join(f.ctx, sfu.JoinOptions{Participant: "mark"})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.until(name, func(e sfu.Event) bool { return e.Conference == name && e.Type == sfu.EventState })
}

// all returns the events of one participant and type so far.
func (f *fixture) all(p sfu.ParticipantID, typ sfu.EventType) (out []sfu.Event) {
	f.t.Helper()
	f.settle()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		if e.Participant == p && e.Type == typ {
			out = append(out, e)
		}
	}
	return out
}

// member is a participant that answers offers.
type member struct {
	*sfu.Endpoint
	f  *fixture
	id sfu.ParticipantID
}

func (f *fixture) join(id sfu.ParticipantID, publish ...sfu.Publish) *member {
	f.t.Helper()
	e, err := f.node.Conference("room").Join(f.ctx, sfu.JoinOptions{Participant: id, Publish: publish})
	if err != nil {
		f.t.Fatal(err)
	}
	return &member{e, f, id}
}

// offer returns the last offer, which must have that number.
func (m *member) offer(number int) *sfu.Offer {
	m.f.t.Helper()
	offers := m.f.all(m.id, sfu.EventOffer)
	if len(offers) != number || offers[number-1].Offer.Number != number {
		m.f.t.Fatalf("%s: %d offers, expected %d", m.id, len(offers), number)
	}
	return offers[number-1].Offer
}

// slots returns the last bindings: track by section.
func (m *member) slots() map[string]sfu.TrackID {
	m.f.t.Helper()
	out := make(map[string]sfu.TrackID)
	if all := m.f.all(m.id, sfu.EventSlots); len(all) > 0 {
		for _, s := range all[len(all)-1].Slots {
			if s.Track != "" {
				out[s.MID] = s.Track
			}
		}
	}
	return out
}

// track returns the own track of a source.
func (m *member) track(s sfu.Source) sfu.TrackID {
	m.f.t.Helper()
	tracks, err := m.Tracks(m.f.ctx)
	if err != nil {
		m.f.t.Fatal(err)
	}
	return tracks[s]
}

// accept is the answer of a client that takes everything.
func accept(o *sfu.Offer, change ...func(*sfu.Answer)) sfu.Answer {
	a := sfu.Answer{
		ICE: sfu.ICEParams{Ufrag: "clnt", Pwd: "clientpassword22charsX"}, SetupActive: true,
		Fingerprint: sfu.Fingerprint{Algorithm: "sha-256", Value: "00" + repeat(":01", 31)},
	}
	for _, s := range o.Sections {
		as := sfu.AnswerSection{MID: s.MID, Codecs: s.Codecs, Extensions: s.Extensions, RIDs: s.RIDs}
		switch s.Direction {
		case sfu.RecvOnly:
			as.Direction = sfu.SendOnly
		case sfu.SendOnly:
			as.Direction = sfu.RecvOnly
		}
		a.Sections = append(a.Sections, as)
	}
	for _, f := range change {
		f(&a)
	}
	return a
}

func repeat(s string, n int) (out string) {
	for range n {
		out += s
	}
	return out
}

// answer accepts the offer of that number, which must be the last.
func (m *member) answer(number int, change ...func(*sfu.Answer)) *sfu.Offer {
	m.f.t.Helper()
	o := m.offer(number)
	if err := m.Answer(m.f.ctx, number, accept(o, change...)); err != nil {
		m.f.t.Fatalf("%s: %v", m.id, err)
	}
	return o
}

// count counts sections.
func count(o *sfu.Offer, k sfu.Kind, d sfu.Direction) (n int) {
	for _, s := range o.Sections {
		if s.Kind == k && s.Direction == d {
			n++
		}
	}
	return n
}
