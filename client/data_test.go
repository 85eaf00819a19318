package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/sfu/data"
	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/wire"
)

func withData(cfg *client.Config) { cfg.Data = true }

// dataMeeting is a meeting on a server that has data channels.
func dataMeeting(t *testing.T, change ...func(*data.Config)) *meeting {
	t.Helper()
	return newServer(t, func(c *signaling.Config) { c.DataBytes = sfu.DataBytes }, func(c *sfu.Config) {
		for _, f := range change {
			f(&c.Data)
		}
	}).open(t)
}

func (m *meeting) dataStats() data.Stats {
	m.t.Helper()
	st, err := m.node.Stats(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return st.Data
}

// associated waits until so many members have their association: what is sent before goes to nobody.
func (m *meeting) associated(n int) {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("%d associations", n), func() bool { return m.dataStats().Members == n })
}

// channel opens a data channel.
func (m *member) channel(label string, o client.DataOptions) *client.DataChannel {
	m.t.Helper()
	var d *client.DataChannel
	must(m.t, "open "+label, func(ctx context.Context) (err error) {
		d, err = m.OpenData(ctx, label, o)
		return err
	})
	return d
}

// Row C6.
func TestDataTwo(t *testing.T) {
	m := dataMeeting(t)
	ann, ben := m.join("Ann", withData), m.join("Ben", withData)
	m.associated(2)
	for _, tc := range []struct {
		name string
		o    client.DataOptions
	}{
		{"reliable", client.DataOptions{}},
		{"unordered", client.DataOptions{Unordered: true}},
		{"lossy", client.DataOptions{Unordered: true, Lossy: true}},
		{"timed", client.DataOptions{Lossy: true, Lifetime: time.Second, Protocol: "cursor.v1"}},
	} {
		d := ann.channel(tc.name, tc.o)
		for i := range 20 {
			if err := d.SendText(fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for range 20 {
			msg := receive(t, "message on "+tc.name, ben.Data())
			if msg.From != ann.Participant() || msg.Label != tc.name || msg.Protocol != tc.o.Protocol || !msg.Text {
				t.Fatalf("%s: got %+v", tc.name, msg)
			}
			got = append(got, string(msg.Data))
		}
		if tc.o.Unordered {
			slices.SortFunc(got, func(a, b string) int { return len(a)*100 + strings.Compare(a, b) - len(b)*100 })
		}
		for i, s := range got {
			if s != fmt.Sprint(i) {
				t.Fatalf("%s: message %d is %q", tc.name, i, s)
			}
		}
	}
	// And back, bytes, none at all too.
	d := ben.channel("reliable", client.DataOptions{})
	for _, b := range [][]byte{{0, 255}, {}} {
		if err := d.Send(b); err != nil {
			t.Fatal(err)
		}
		if msg := receive(t, "answer", ann.Data()); msg.From != ben.Participant() || msg.Text || !bytes.Equal(msg.Data, b) {
			t.Fatalf("got %+v, want %v", msg, b)
		}
	}
}

// Somebody who joined without data channels asks for them while sound flows, and has them in both directions.
func TestDataLater(t *testing.T) {
	m := dataMeeting(t)
	ann, ben := m.join("Ann", withData), m.join("Ben", publish(microphone))
	m.associated(1)
	talk(t, ben.Local(wire.Microphone), nil)
	if _, err := ben.OpenData(t.Context(), "x", client.DataOptions{}); !errors.Is(err, client.ErrNoData) {
		t.Errorf("before it was asked for: %v", err)
	}
	must(t, "ask", ben.WantData)
	must(t, "ask again", ben.WantData)
	e := event(ann, func(e *wire.Updated) bool { return e.Participant.ID == ben.Participant() && e.Participant.Data != "" })
	if e.Participant.Data != wire.DataOpen {
		t.Errorf("told %+v", e.Participant)
	}
	d := ben.channel("chat", client.DataOptions{}) // its opening is what pion begins the association with
	m.associated(2)
	if err := d.SendText("from Ben"); err != nil {
		t.Fatal(err)
	}
	if msg := receive(t, "message", ann.Data()); msg.From != ben.Participant() || string(msg.Data) != "from Ben" {
		t.Errorf("got %+v", msg)
	}
	if err := ann.channel("chat", client.DataOptions{}).SendText("from Ann"); err != nil {
		t.Fatal(err)
	}
	if msg := receive(t, "answer", ben.Data()); msg.From != ann.Participant() || string(msg.Data) != "from Ann" {
		t.Errorf("got %+v", msg)
	}
	in := m.stats().Forward.PacketsIn
	eventually(t, "sound", func() bool { return m.stats().Forward.PacketsIn > in+10 })
}

// Row C6.
func TestDataThree(t *testing.T) {
	m := dataMeeting(t)
	ann, ben, kei := m.join("Ann", withData), m.join("Ben", withData), m.join("Kei", withData)
	bystander := m.join("Lea", nil)
	m.associated(3)
	if _, err := bystander.OpenData(t.Context(), "x", client.DataOptions{}); !errors.Is(err, client.ErrNoData) {
		t.Errorf("who has not asked: %v", err)
	}
	all := []*member{ann, ben, kei}
	for _, from := range all {
		d := from.channel("state", client.DataOptions{})
		for _, size := range []int{1, 1200, 64 << 10, sfu.DataBytes} {
			b := bytes.Repeat([]byte{byte(size), byte(size >> 8), 7}, size/3+1)[:size]
			if err := d.Send(b); err != nil {
				t.Fatal(err)
			}
			for _, to := range all {
				if to == from {
					continue
				}
				if msg := receive(t, "message", to.Data()); msg.From != from.Participant() || !bytes.Equal(msg.Data, b) {
					t.Fatalf("%d bytes became %d, from %s", size, len(msg.Data), msg.From)
				}
			}
		}
	}
	if st := m.dataStats(); st.MessagesIn != 12 || st.MessagesOut != 24 || st.Overrun+st.Limited+st.Oversized != 0 {
		t.Errorf("counted %+v", st)
	}
	for _, p := range ann.Roster() {
		want := wire.DataOpen
		if p.ID == bystander.Participant() {
			want = ""
		}
		if p.Data != want {
			t.Errorf("roster: %s has data %q, want %q", p.Name, p.Data, want)
		}
	}
}

// Row C6.
func TestDataMutedByHost(t *testing.T) {
	m := dataMeeting(t)
	host, ben := m.join("Ann", with(m.host, withData)), m.join("Ben", withData)
	m.associated(2)
	d := ben.channel("x", client.DataOptions{})
	say := func(s string) {
		t.Helper()
		if err := d.SendText(s); err != nil {
			t.Fatal(err)
		}
	}
	say("one")
	if msg := receive(t, "message", host.Data()); string(msg.Data) != "one" {
		t.Fatalf("got %q", msg.Data)
	}
	must(t, "mute", func(ctx context.Context) error { return host.MuteData(ctx, ben.Participant(), true) })
	say("two")
	eventually(t, "a message is dropped", func() bool { return m.dataStats().Muted == 1 })
	event(host, func(e *wire.Updated) bool { return e.Participant.Data == wire.DataMuted })
	must(t, "unmute", func(ctx context.Context) error { return host.MuteData(ctx, ben.Participant(), false) })
	say("three")
	if msg := receive(t, "message", host.Data()); string(msg.Data) != "three" {
		t.Fatalf("got %q", msg.Data)
	}
	var refused *wire.Error
	if err := ben.MuteData(t.Context(), host.Participant(), true); !errors.As(err, &refused) || refused.Code != wire.Forbidden {
		t.Errorf("who is no host mutes: %v", err)
	}
}

func TestDataLimits(t *testing.T) {
	m := dataMeeting(t, func(c *data.Config) { c.Channels, c.MessagesPerSecond = 2, 10 })
	ann, ben := m.join("Ann", withData), m.join("Ben", withData)
	m.associated(2)
	lossy := ann.channel("lossy", client.DataOptions{Lossy: true})
	ann.channel("second", client.DataOptions{})
	eventually(t, "two channels", func() bool { return m.dataStats().Channels == 2 })
	if _, err := ann.OpenData(t.Context(), "third", client.DataOptions{}); err != nil { // acknowledged, then closed
		t.Logf("third: %v", err)
	}
	if e := event[*wire.DataClosed](ann, nil); e.Label != "third" || e.Reason != wire.DataTooMany || e.From != ann.Participant() {
		t.Errorf("told %+v", e)
	}
	for range 40 {
		if err := lossy.SendText("x"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the rate is bounded", func() bool { st := m.dataStats(); return st.MessagesIn == 40 && st.Limited >= 20 })
	receive(t, "one of them", ben.Data())
}

// TestDataSlowReceiver has one receiver who does not read: the others are not held up for longer than the patience, and it is told. Row C6.
func TestDataSlowReceiver(t *testing.T) {
	m := dataMeeting(t, func(c *data.Config) {
		c.QueueBytes, c.LossyBytes, c.Patience, c.BytesPerSecond = 256<<10, 64<<10, 200*time.Millisecond, 64<<20
	})
	ann, ben, slow := m.join("Ann", withData), m.join("Ben", withData), m.join("Kei", withData)
	m.associated(3)
	reliable := ann.channel("reliable", client.DataOptions{})
	const n = 200
	go func() {
		for range n {
			_ = reliable.Send(make([]byte, 32<<10))
		}
	}()
	for range n {
		receive(t, "message to who reads", ben.Data())
	}
	if e := event[*wire.DataClosed](slow, nil); e.Label != "reliable" || e.From != ann.Participant() || e.Reason != wire.DataSlow {
		t.Errorf("the slow one is told %+v", e)
	}
	if e := event[*wire.DataClosed](ann, nil); e.Label != "reliable" || e.From != slow.Participant() || e.Reason != wire.DataSlow {
		t.Errorf("the sender is told %+v", e)
	}
	if st := m.dataStats(); st.ClosedSlow != 1 {
		t.Errorf("%d channels closed, want 1", st.ClosedSlow)
	}
}

func TestDataClose(t *testing.T) {
	m := dataMeeting(t)
	ann, ben := m.join("Ann", withData), m.join("Ben", withData)
	m.associated(2)
	for range 3 { // the label and the stream are free again each time
		d := ann.channel("x", client.DataOptions{})
		if err := d.SendText("hello"); err != nil {
			t.Fatal(err)
		}
		receive(t, "message", ben.Data())
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the channel is gone", func() bool { return m.dataStats().Channels == 0 })
	}
	must(t, "leave", ann.Leave)
	m.associated(1)
}

// TestDataCostsOthersNothing counts goroutines of the server with members who have not asked for data: as many as on a server that
// has none.
func TestDataCostsOthersNothing(t *testing.T) {
	m := dataMeeting(t)
	m.join("Ann", nil)
	eventually(t, "no member has data", func() bool { return m.dataStats().Members == 0 })
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, of := range []string{"sotto/sfu/data.", "pion/sctp", "handshake.(*dataConn)"} {
		if strings.Contains(string(stacks), of) {
			t.Errorf("a goroutine of %s runs", of)
		}
	}
	m.join("Ben", withData)
	m.associated(1)
	stacks = stacks[:cap(stacks)]
	if stacks = stacks[:runtime.Stack(stacks, true)]; !strings.Contains(string(stacks), "sotto/sfu/data.") {
		t.Error("no goroutine of who has asked is found: this test sees nothing")
	}
}

func TestDataRefused(t *testing.T) {
	m := newMeeting(t) // whose server has none
	ann := m.join("Ann", withData)
	if n := ann.Limits().DataBytes; n != 0 {
		t.Errorf("dataBytes is %d", n)
	}
	if _, err := ann.OpenData(t.Context(), "x", client.DataOptions{}); !errors.Is(err, client.ErrNoData) {
		t.Errorf("got %v", err)
	}
}
