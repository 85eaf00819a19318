package forward_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/forward"
)

// BenchmarkShards is what a packet of a publisher with forty receivers costs, sealing included and sockets not: all of it on one
// shard; with half of the receivers on another one, which the packet reaches once; and with each of their copies crossing by itself,
// as it must where shards own tracks rather than sessions and may not touch each other's sessions. One thread does both shards' work:
// the figure is their cost together.
func BenchmarkShards(b *testing.B) {
	for _, k := range []struct {
		name        string
		here, there int
		each        bool
	}{{"one", 40, 0, false}, {"mirror", 20, 20, false}, {"each", 20, 20, true}} {
		b.Run(k.name, func(b *testing.B) {
			p := newPair(b, 256)
			pub := p.a.join(1, theirs)
			tv, sv := pub.video("1", cameraSSRC, cameraRTX)
			for i := range k.here {
				p.a.join(10+i, ours).slot(1, rtp.KindVideo, vp8).Bind(tv, p.a.now)
			}
			var m *forward.Mirror
			for i := range k.there {
				if m == nil || k.each {
					m = p.mirror(tv)
				}
				p.b.join(10+i, ours).slot(1, rtp.KindVideo, vp8).Bind(m.Track(), p.b.now)
			}
			p.push(sv, key("begin"))
			p.a.null, p.b.null = true, true
			payload := make([]byte, 1100)
			copy(payload, delta(""))
			batch := make([]udp.Datagram, 1)
			var busy time.Duration
			for b.Loop() {
				batch[0] = udp.Datagram{Data: sv.next(payload), Path: udp.Path{Remote: pub.Addr, Local: serverAddr.Addr()}}
				clear(sv.history)
				begin := time.Now()
				p.a.mux.Receive(batch, p.a.now)
				p.down.Publish()
				p.a.router.Flush(p.a.now)
				p.down.Receive(p.b.router, p.b.mux, 64, p.b.now)
				p.b.router.Flush(p.b.now)
				busy += time.Since(begin)
				p.a.now += 20 * ms
				p.b.now += 20 * ms
			}
			b.ReportMetric(float64(busy.Nanoseconds())/float64(b.N)/40, "ns/sent")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkLink is what crossing costs: one packet through a Link, within one core and from one core to another.
func BenchmarkLink(b *testing.B) {
	d := udp.Datagram{Data: make([]byte, 1100)}
	b.Run("same", func(b *testing.B) {
		r := newRig(b)
		l := forward.NewLink(256)
		for b.Loop() {
			l.Forward(&d)
			l.Publish()
			l.Receive(r.router, r.mux, 1, r.now)
		}
	})
	b.Run("cores", func(b *testing.B) {
		r := newRig(b)
		l := forward.NewLink(256)
		var done sync.WaitGroup
		done.Add(1)
		go func() {
			defer done.Done()
			runtime.LockOSThread()
			for got := 0; got < b.N; {
				got += l.Receive(r.router, r.mux, 64, r.now)
			}
		}()
		runtime.LockOSThread()
		for i := 0; i < b.N; {
			before := l.Counters.Datagrams
			l.Forward(&d)
			if l.Counters.Datagrams != before {
				i++
			}
			if i%8 == 0 || l.Counters.Datagrams == before {
				l.Publish()
			}
		}
		l.Publish()
		done.Wait()
	})
}
