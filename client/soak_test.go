package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// soak is what everything of this process amounts to.
type soak struct {
	goroutines, files int
	heap              uint64
}

func measure(t *testing.T) soak {
	t.Helper()
	runtime.GC()
	runtime.GC() // what finalizers held goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return soak{runtime.NumGoroutine(), len(files), m.HeapAlloc}
}

// settled measures when everything has come to rest: the same goroutines and files a few times in a row.
func settled(t *testing.T, s *server, atMost soak) soak {
	t.Helper()
	eventually(t, "an empty server", func() bool {
		st, err := s.node.Stats(t.Context())
		return err == nil && st.Endpoints == 0 && s.svc.Stats().Sessions == 0 && s.svc.Stats().Links == 0
	})
	now := measure(t)
	for same, end := 0, time.Now().Add(patience); same < 10 && time.Now().Before(end); {
		next := measure(t)
		switch {
		case next.goroutines != now.goroutines || next.files != now.files:
			same = 0
		case atMost.goroutines != 0 && (next.goroutines > atMost.goroutines || next.files > atMost.files):
			same = 0
		default:
			same++
		}
		now = next
	}
	return now
}

// crowd is clients that join and leave at random.
type crowd struct {
	*server
	t                     *testing.T
	rooms                 []string
	proxies               []*proxy
	every                 time.Duration // between packets of a track
	joins, packets        atomic.Int64
	abrupt, cut, restarts atomic.Int64
	lost                  atomic.Int64 // seats whose resumption came too late
}

// stay is one visit: join, perhaps publish, talk, listen, and leave one way or another.
func (c *crowd) stay(ctx context.Context, r *rand.Rand, p *proxy) error {
	room := c.rooms[r.IntN(len(c.rooms))]
	cfg := client.Config{URL: p.url(), Room: room, Name: "Soak", TLS: c.tls, AutoSubscribe: true}
	if r.IntN(3) == 0 {
		cfg.Publish = []client.Publication{{Source: wire.Microphone}, {Source: wire.Camera, Simulcast: r.IntN(2) == 0}}
	}
	joining, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := client.Join(joining, cfg)
	if err != nil {
		return err
	}
	c.joins.Add(1)
	ending := func() error { return m.Leave(joining) }
	if r.IntN(4) == 0 {
		c.abrupt.Add(1)
		ending = m.Close
	}
	defer m.Close()
	if r.IntN(5) > 0 { // the others leave in the middle of it
		if err := m.Connected(joining); err != nil {
			return err
		}
	}
	var restart, cut <-chan time.Time
	if r.IntN(6) == 0 {
		restart = time.After(time.Duration(r.IntN(500)) * time.Millisecond)
	}
	if r.IntN(6) == 0 {
		cut = time.After(time.Duration(r.IntN(500)) * time.Millisecond)
	}
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	over := time.After(time.Duration(200+r.IntN(1500)) * time.Millisecond)
	payload := append(descriptor("", true), make([]byte, 200)...)
	for n := uint32(0); ; {
		select {
		case <-ctx.Done():
			return ending()
		case <-over:
			return ending()
		case <-m.Done():
			return m.Err()
		case <-restart:
			c.restarts.Add(1)
			if err := m.Restart(joining); err != nil {
				return err
			}
		case <-cut:
			c.cut.Add(1)
			p.cut(false)
		case s, ok := <-m.Streams():
			for ok && len(s.Packets()) > 0 {
				<-s.Packets()
				c.packets.Add(1)
			}
		case <-tick.C:
			n++
			for _, source := range []wire.Source{wire.Microphone, wire.Camera} {
				track := m.Local(source)
				for layer := 0; track != nil && layer < track.Layers(); layer++ {
					p := &rtp.Packet{Payload: payload, Header: rtp.Header{Version: 2, Marker: true, SequenceNumber: uint16(n), Timestamp: n * 4500}}
					if err := track.WriteLayer(layer, p); err != nil && m.Err() == nil {
						c.t.Logf("write: %v", err)
					}
				}
			}
		}
	}
}

// run lets n clients come and go until the time is over.
func (c *crowd) run(n int, lasts time.Duration) {
	ctx, cancel := context.WithTimeout(c.t.Context(), lasts)
	defer cancel()
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(i)))
			p := c.proxies[i]
			for ctx.Err() == nil {
				switch err := c.stay(ctx, r, p); {
				case err == nil || ctx.Err() != nil || errors.Is(err, client.ErrClosed):
				case errors.Is(err, client.ErrSeatLost): // two seconds are short, and a machine may be busy with others
					c.lost.Add(1)
				default:
					c.t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	work.Wait()
}

// TestSoak: clients join and leave at random, politely and not, with broken connections and ICE restarts among it. When all are
// gone nothing of them is left: goroutines and file descriptors are as many as before, and the heap within 5 %. SOTTO_SOAK gives a
// time and makes it a hundred clients.
func TestSoak(t *testing.T) {
	clients, lasts := 25, 10*time.Second
	if testing.Short() {
		lasts = 4 * time.Second
	}
	if text := os.Getenv("SOTTO_SOAK"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		clients, lasts = 100, d
	}
	s := newServer(t, func(cfg *signaling.Config) { cfg.ResumeWindow = 2 * time.Second })
	c := &crowd{server: s, t: t}
	for range max(1, clients/10) {
		m, err := client.OpenMeeting(t.Context(), s.http.URL, s.tls, "")
		if err != nil {
			t.Fatal(err)
		}
		c.rooms = append(c.rooms, m.Room)
	}
	for range clients * 3 / 2 {
		c.proxies = append(c.proxies, newProxy(t, s))
	}
	// What is kept for ever, such as the pool of packet buffers, is there after more of everything than there will be.
	c.every = 20 * time.Millisecond
	c.run(clients*3/2, lasts/4)
	c.every = 50 * time.Millisecond
	before := settled(t, s, soak{})
	c.run(clients, lasts)
	after := settled(t, s, before)
	t.Logf("%d clients for %s: %d joins, %d abrupt ends, %d cut connections, %d seats lost by it, %d restarts; before %+v, after %+v",
		clients, lasts, c.joins.Load(), c.abrupt.Load(), c.cut.Load(), c.lost.Load(), c.restarts.Load(), before, after)
	if lost, cut := c.lost.Load(), c.cut.Load(); lost > 5+cut/50 {
		t.Errorf("%d of %d cut connections were not resumed in time", lost, cut)
	}
	if after.goroutines > before.goroutines {
		t.Errorf("%d goroutines, before %d:\n%s", after.goroutines, before.goroutines, goroutines())
	}
	if after.files > before.files {
		t.Errorf("%d file descriptors, before %d", after.files, before.files)
	}
	// A small crowd's heap is small: what the allocator and the pools round up to counts for more than 5 % of it.
	slack := 0.0
	if clients < 100 {
		slack = 1 << 20
	}
	if grown := float64(after.heap)/float64(before.heap) - 1; float64(after.heap) > 1.05*float64(before.heap)+slack {
		t.Errorf("the heap has grown by %.1f %%, from %d to %d bytes", 100*grown, before.heap, after.heap)
	}
	st, err := s.node.Stats(t.Context())
	if err != nil || st.BuffersInUse != 0 {
		t.Errorf("%d packet buffers are in use, %v", st.BuffersInUse, err)
	}
}

func goroutines() string {
	var b strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		return fmt.Sprint(err)
	}
	return b.String()
}
