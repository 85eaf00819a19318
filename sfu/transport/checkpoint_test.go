package transport_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/perc/srtp"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/transporttest"
)

// move takes a checkpoint as another process would get it.
func move(s *transport.Session, now int64) transport.Checkpoint {
	return transport.NewCheckpoint(bytes.Clone(s.Checkpoint(now).Expose()))
}

// moveTo lets the client speak to another node as well.
func (c *client) moveTo(n *node) *client {
	c.node = n
	return c
}

func TestCheckpointRoundTrip(t *testing.T) {
	for name, grow := range map[string]func(*world, *node, *transport.Session, *client){
		"connected": func(*world, *node, *transport.Session, *client) {},
		"used": func(w *world, n *node, s *transport.Session, c *client) {
			for i := range uint64(100) {
				send(w.t, s, 65500+i, "x")
				n.deliver(c.Addr, c.packet("y"))
			}
			w.run(12345 * time.Millisecond)
		},
		"restarting": func(w *world, n *node, s *transport.Session, c *client) {
			s.Restart()
			d := c.also(3000)
			n.deliver(d.Addr, d.Request())
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.node(1)
			s, c := w.connect(a, 77, 1000, gcm)
			grow(w, a, s, c)
			first := move(s, w.now)
			w.now += 17 * sec // no two nodes share a clock
			b := w.node(2)
			r, err := b.mux.Restore(first, transport.RestoreOptions{}, w.now)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Checkpoint(w.now).Expose(); !bytes.Equal(got, first.Expose()) {
				t.Errorf("checkpoint of the restored session differs:\n%x\n%x", first.Expose(), got)
			}
			if r.Local() != s.Local() || r.State() != s.State() || r.ID() != s.ID() {
				t.Error("restored session differs")
			}
		})
	}
}

func TestCheckpointBeforeConnect(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(1), w.node(2)
	s, _ := a.mux.Open(5, w.now)
	r, err := b.mux.Restore(move(s, w.now), transport.RestoreOptions{}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	c := w.client(b, 1000, r.Local())
	if err := r.SetRemote(c.Remote(), w.now); err != nil {
		t.Fatal(err)
	}
	b.deliver(c.Addr, c.Request())
	b.deliver(c.Addr, transporttest.ClientHello)
	if len(b.shaker.Started) != 1 {
		t.Error("restored session cannot begin")
	}
}

func TestRestoreRefuses(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(1), w.node(2)
	s, c := w.connect(a, 77, 1000, gcm)
	good := move(s, w.now)
	if _, err := a.mux.Restore(good, transport.RestoreOptions{Skip: 1000}, w.now); !errors.Is(err, transport.ErrDuplicate) {
		t.Errorf("beside the original: %v", err)
	}
	if _, err := b.mux.Restore(good, transport.RestoreOptions{}, w.now); err != nil {
		t.Fatal(err)
	}
	for _, standby := range []bool{true, false} {
		if _, err := b.mux.Restore(good, transport.RestoreOptions{Skip: 1000, Standby: standby}, w.now); !errors.Is(err, transport.ErrDuplicate) {
			t.Errorf("second restore: %v", err)
		}
	}
	if got := b.mux.Counters().DuplicateRestores; got != 2 {
		t.Errorf("DuplicateRestores = %d", got)
	}
	// The refused ones have not hurt the original.
	a.deliver(c.Addr, c.packet("still"))
	if len(a.handler.rtp) != 1 {
		t.Error("original session damaged")
	}

	d := w.node(3)
	raw := good.Expose()
	for n := range raw {
		if _, err := d.mux.Restore(transport.NewCheckpoint(bytes.Clone(raw[:n])), transport.RestoreOptions{}, w.now); err == nil {
			t.Fatalf("%d of %d bytes accepted", n, len(raw))
		}
	}
	if _, err := d.mux.Restore(transport.NewCheckpoint(append(bytes.Clone(raw), 0)), transport.RestoreOptions{}, w.now); err == nil {
		t.Error("trailing byte accepted")
	}
	if _, err := d.mux.Restore(transport.Checkpoint{}, transport.RestoreOptions{}, w.now); err == nil {
		t.Error("empty checkpoint accepted")
	}
	foreign := w.node(4, func(c *transport.Config) {
		c.Secret, _ = transport.NewUfragKey([]byte("another cluster's secret"))
	})
	if _, err := foreign.mux.Restore(good, transport.RestoreOptions{}, w.now); err == nil {
		t.Error("session of another cluster accepted")
	}
	s.Close()
	if _, err := d.mux.Restore(move(s, w.now), transport.RestoreOptions{}, w.now); err == nil {
		t.Error("closed session accepted")
	}
}

func TestStandby(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(1), w.node(2)
	s, c := w.connect(a, 77, 1000, gcm)
	c.every = sec
	if s.Activate(w.now) == nil {
		t.Error("active session activated")
	}
	r, err := b.mux.Restore(move(s, w.now), transport.RestoreOptions{Skip: 100, Standby: true}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	// Nothing leaves before the client has shown itself here.
	w.run(5 * time.Second)
	if len(b.out.sent) != 0 {
		t.Fatal("standby spoke first")
	}
	if r.Validated() || r.Ready() {
		t.Error("standby claims to be more than it is")
	}
	// It answers checks, makes its own, never nominates, and sends or takes no media.
	c.Checks = nil
	b.deliver(c.Addr, c.Request())
	w.run(20 * time.Second)
	if !r.Validated() {
		t.Error("pair not validated")
	}
	n := 0
	for _, d := range b.out.sent {
		if m := parse(t, d.data); m.Type == 0x0001 {
			n++
			if m.UseCandidate() {
				t.Error("standby nominates")
			}
		}
	}
	if n < 7 || n > 11 {
		t.Errorf("%d checks in 20 s", n)
	}
	b.deliver(c.Addr, c.packet("x"))
	b.deliver(c.Addr, transporttest.ClientHello)
	if len(b.handler.rtp) != 0 || len(b.shaker.Started) != 0 || trySend(t, r, 500, "x") == nil {
		t.Error("standby takes part")
	}
	if got := b.mux.Counters(); got.NotActive != 1 || got.DTLSUnexpected != 1 {
		t.Errorf("counters %+v", got)
	}

	// Takeover: nominated every 20 ms until answered, with a higher value, and media at
	// once.
	a.dead = true
	c.Deaf = true
	c.Checks = nil
	c.moveTo(b)
	c.every = 0
	start := w.now
	if err := r.Activate(w.now); err != nil {
		t.Fatal(err)
	}
	if !r.Ready() || r.State() != transport.StateConnected {
		t.Error("not ready at once")
	}
	send(t, r, 500, "go on")
	w.pump()
	w.run(110 * time.Millisecond)
	if len(c.Checks) != 6 {
		t.Errorf("%d nominations in 110 ms", len(c.Checks))
	}
	for i, k := range c.Checks {
		if !k.UseCandidate || k.Nomination <= 1 || k.At != start+int64(i)*20*ms {
			t.Errorf("nomination %+v", k)
		}
	}
	c.Deaf = false
	w.run(20 * time.Millisecond)
	seen := len(c.Checks)
	w.run(time.Second)
	if len(c.Checks) != seen {
		t.Error("nominates on after the answer")
	}
	b.deliver(c.Addr, c.packet("y"))
	if len(b.handler.rtp) != 1 {
		t.Error("nothing received after the takeover")
	}
	c.every = sec
	w.run(2 * time.Minute)
	if r.State() != transport.StateConnected {
		t.Errorf("state %v", r.State())
	}
}

// A standby that the client has never reached begins where the primary was.
func TestActivateBlind(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(1), w.node(2)
	s, c := w.connect(a, 77, 1000, gcm)
	r, err := b.mux.Restore(move(s, w.now), transport.RestoreOptions{Skip: 100, Standby: true}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	a.dead = true
	c.moveTo(b)
	if err := r.Activate(w.now); err != nil {
		t.Fatal(err)
	}
	w.run(50 * time.Millisecond)
	if !r.Validated() || c.LastCheck().Nomination <= 1 {
		t.Error("client not reached")
	}
	b.deliver(c.Addr, c.packet("x"))
	if len(b.handler.rtp) != 1 {
		t.Error("nothing received")
	}
	w.run(time.Minute)
	if r.State() != transport.StateConnected {
		t.Errorf("state %v", r.State())
	}

	// A client that is nowhere: consent ends after 30 s, not at once and not never.
	e := w.node(3)
	r, err = e.mux.Restore(move(s, w.now), transport.RestoreOptions{Skip: 100, Standby: true}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	c.Deaf = true
	_ = r.Activate(w.now)
	w.run(29 * time.Second)
	if r.State() == transport.StateFailed {
		t.Error("gave up early")
	}
	w.run(2 * time.Second)
	if r.State() != transport.StateFailed {
		t.Errorf("state %v", r.State())
	}
}

func TestUpdate(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(1), w.node(2)
	s, c := w.connect(a, 77, 1000, gcm)
	r, err := b.mux.Restore(move(s, w.now), transport.RestoreOptions{Skip: 100, Standby: true}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	b.deliver(c.Addr, c.Request())
	for i := range uint64(10) {
		send(t, s, i, "x")
	}
	other, _ := w.connect(a, 78, 2000, gcm)
	if r.Update(move(other, w.now), 0, w.now) == nil {
		t.Error("checkpoint of another session accepted")
	}
	if s.Update(move(s, w.now), 0, w.now) == nil {
		t.Error("active session updated")
	}
	s.Freeze()
	if err := r.Update(move(s, w.now), 0, w.now); err != nil {
		t.Fatal(err)
	}
	if !r.Validated() {
		t.Error("own path lost over the update")
	}
	if err := r.Activate(w.now); err != nil {
		t.Fatal(err)
	}
	if trySend(t, r, 9, "again") == nil {
		t.Error("index used twice")
	}
	send(t, r, 10, "next")
}

func TestFreeze(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, c := w.connect(n, 77, 1000, gcm)
	c.every = sec
	s.Freeze()
	n.moved = len(n.out.sent)
	frozen := move(s, w.now)
	if trySend(t, s, 1, "x") == nil {
		t.Error("frozen session sends")
	}
	n.deliver(c.Addr, c.packet("x"))
	n.deliver(c.Addr, c.Request())
	w.run(time.Minute)
	if len(n.handler.rtp) != 0 || n.moved != len(n.out.sent) {
		t.Error("frozen session lives")
	}
	if s.Activate(w.now) == nil {
		t.Error("frozen session activated")
	}
	s.Close()
	n.mux.HandshakePacket(77, []byte{21}, w.now) // its close_notify, which must not reach the client
	if n.moved != len(n.out.sent) {
		t.Error("frozen session said goodbye")
	}
	if _, err := w.node(2).mux.Restore(frozen, transport.RestoreOptions{}, w.now); err != nil {
		t.Error(err)
	}
}

// Twenty times over, a node dies and another goes on from an older checkpoint. The lease
// holds on both sides: no index is used twice, everything sent later opens at the client
// over a wrap of the sequence number, and a packet from before does not open again.
func TestTwentyRestores(t *testing.T) {
	const lease = 500
	for _, p := range []srtp.Profile{srtp.AEADAES128GCM, srtp.AES128CMHMACSHA1_80} {
		t.Run(p.String(), func(t *testing.T) {
			w := newWorld(t)
			rnd := rand.New(transporttest.NewSeeded(3))
			n := w.node(1)
			s, c := w.connect(n, 77, 1000, p)
			used := make(map[uint64]bool)
			next := uint64(65536 - 200) // the first gap wraps
			emit := func(s *transport.Session, count int) {
				t.Helper()
				for range count {
					if used[next] {
						t.Fatalf("index %d used twice", next)
					}
					used[next] = true
					send(t, s, next, "media")
					next++
				}
				w.pump()
				for _, b := range c.Other {
					if _, _, err := c.open(b); err != nil {
						t.Fatalf("packet %d after restore: %v", sequence(b), err)
					}
				}
				c.Other = nil
			}
			emit(s, 50)
			var replay []byte
			for i := range 20 {
				st, err := s.Sender().Stream(serverSSRC)
				if err != nil {
					t.Fatal(err)
				}
				top, _ := st.Highest()
				st.SetLimit(top + lease)
				cp := move(s, w.now)
				emit(s, rnd.IntN(lease)) // after the checkpoint, within the lease
				old := c.packet("before")
				n.deliver(c.Addr, old)

				m := w.node(byte(i + 2))
				r, err := m.mux.Restore(cp, transport.RestoreOptions{Skip: lease, Standby: true}, w.now)
				if err != nil {
					t.Fatal(err)
				}
				n.dead = true
				c.moveTo(m)
				m.deliver(c.Addr, c.Request())
				if err := r.Activate(w.now); err != nil {
					t.Fatal(err)
				}
				w.pump()
				if st, err = r.Sender().Stream(serverSSRC); err != nil {
					t.Fatal(err)
				}
				high, ok := st.Highest()
				if !ok || high != top+lease {
					t.Fatalf("restored at %d, want %d", high, top+lease)
				}
				if trySend(t, r, high, "x") == nil || trySend(t, r, next, "x") == nil && next <= high {
					t.Fatal("restored session used a leased index")
				}
				next = high + 1
				emit(r, 10)
				// Upwards: what the dead node has opened after the checkpoint opens once here,
				// then no more; new packets open.
				m.deliver(c.Addr, old)
				m.deliver(c.Addr, old)
				m.deliver(c.Addr, c.packet("after"))
				if replay != nil {
					m.deliver(c.Addr, replay)
				}
				if got := len(m.handler.rtp); got != 2 {
					t.Fatalf("restore %d: %d packets opened, want 2", i, got)
				}
				replay = old
				n, s = m, r
			}
			t.Logf("indices up to %d (%d wraps), %d used", next, next>>16, len(used))
		})
	}
}

func TestSealedTypes(t *testing.T) {
	w := newWorld(t)
	n := w.node(1)
	s, _ := w.connect(n, 77, 1000, gcm)
	cp := s.Checkpoint(w.now)
	secrets := []string{string(transporttest.Secret), s.Local().Pwd, fmt.Sprint([]byte(s.Local().Pwd)), fmt.Sprintf("%x", s.Local().Pwd)}
	for _, v := range []any{
		cp, &cp, transporttest.UfragKey(t),
		struct{ C transport.Checkpoint }{cp},
		[]transport.Checkpoint{cp},
		transport.Config{Secret: transporttest.UfragKey(t)},
		map[string]any{"k": cp},
	} {
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%T"} {
			fmt.Fprintf(&out, verb, v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		j, _ := json.Marshal(v)
		out.Write(j)
		_ = gob.NewEncoder(&out).Encode(v)
		for _, secret := range secrets {
			if strings.Contains(out.String(), secret) {
				t.Errorf("%T gives its secret away: %q", v, out.String())
			}
		}
		if strings.Contains(out.String(), string(cp.Expose()[:8])) {
			t.Errorf("%T gives its bytes away", v)
		}
	}
	if _, err := json.Marshal(cp); err == nil {
		t.Error("checkpoint marshalled to JSON")
	}
	b := cp.Expose()
	cp.Wipe()
	if bytes.ContainsFunc(b, func(r rune) bool { return r != 0 }) || len(cp.Expose()) != 0 {
		t.Error("not wiped")
	}
}

func FuzzRestoreCheckpoint(f *testing.F) {
	w := newWorld(f)
	n := w.node(1)
	s, c := w.connect(n, 77, 1000, gcm)
	f.Add(bytes.Clone(s.Checkpoint(w.now).Expose()), uint16(0), false)
	for i := range uint64(40) {
		send(f, s, i*3, "x")
		n.deliver(c.Addr, c.packet("y"))
	}
	s.Restart()
	f.Add(bytes.Clone(s.Checkpoint(w.now).Expose()), uint16(512), true)
	empty, _ := n.mux.Open(3, w.now)
	f.Add(bytes.Clone(empty.Checkpoint(w.now).Expose()), uint16(1), false)
	f.Fuzz(func(t *testing.T, b []byte, skip uint16, standby bool) {
		w := newWorld(t)
		n := w.node(2)
		r, err := n.mux.Restore(transport.NewCheckpoint(bytes.Clone(b)), transport.RestoreOptions{Skip: uint64(skip), Standby: standby}, w.now)
		if err != nil {
			if n.mux.Len() != 0 {
				t.Fatal("refused session left in the table")
			}
			return
		}
		if skip == 0 && !standby && r.State() < transport.StateFailed {
			// A second pass changes nothing any more.
			again := r.Checkpoint(w.now)
			m := w.node(3)
			q, err := m.mux.Restore(again, transport.RestoreOptions{}, w.now)
			if err != nil {
				t.Fatalf("own checkpoint refused: %v", err)
			}
			if !bytes.Equal(q.Checkpoint(w.now).Expose(), again.Expose()) {
				t.Fatal("checkpoints differ")
			}
		}
		if standby {
			_ = r.Activate(w.now)
		}
		w.run(40 * time.Second)
		r.Close()
		if n.mux.Len() != 0 || n.mux.NextDeadline() != transport.Never {
			t.Fatal("session left behind")
		}
	})
}
