package udp

import (
	"testing"
)

// The figures are of loopback, where a send includes the delivery to the receiver's
// queue; compare within one run only.

const benchSize = 1200

// drain empties a socket.
func drain(s *Socket, dst []Datagram) {
	for s.Receive(dst) > 0 {
		continue
	}
}

func BenchmarkSend(b *testing.B) {
	for _, c := range []struct {
		name string
		run  int // datagrams in a row to the same peer
		cfg  Config
	}{
		{"single", 1, Config{}},
		{"run4", 4, Config{}},
		{"run8", 8, Config{}},
		{"run16", 16, Config{}},
		{"run16 without GSO", 16, Config{NoGSO: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			const batch = 64
			c.cfg.Listen = loopback("127.0.0.1")
			s := listen(b, c.cfg)
			var peers [2]*Socket
			for i := range peers {
				peers[i] = listen(b, Config{Listen: loopback("127.0.0.1")})
			}
			dst := make([]Datagram, batch)
			m := pattern(1, benchSize)
			b.ReportAllocs()
			b.SetBytes(batch * benchSize)
			for b.Loop() {
				for i := range batch {
					send(s, m, Path{Remote: peers[i/c.run%2].local, Local: s.pinned})
				}
				s.Flush()
				b.StopTimer()
				drain(peers[0], dst)
				drain(peers[1], dst)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/datagram")
		})
	}
}

func BenchmarkReceive(b *testing.B) {
	for _, c := range []struct {
		name string
		gso  bool
		cfg  Config
	}{
		{"plain", false, Config{NoGRO: true}},
		{"GRO, not joined", false, Config{}},
		{"GRO, joined", true, Config{}},
	} {
		b.Run(c.name, func(b *testing.B) {
			const batch = 64
			c.cfg.Listen = loopback("127.0.0.1")
			r := listen(b, c.cfg)
			s := listen(b, Config{Listen: loopback("127.0.0.1"), NoGSO: !c.gso})
			dst := make([]Datagram, batch)
			m := pattern(1, benchSize)
			b.ReportAllocs()
			b.SetBytes(batch * benchSize)
			for b.Loop() {
				b.StopTimer()
				for range batch {
					send(s, m, Path{Remote: r.local})
				}
				s.Flush()
				b.StartTimer()
				for n := 0; n < batch; {
					r.Wait(patience)
					n += r.Receive(dst)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/datagram")
		})
	}
}

// BenchmarkQueue is a datagram's way into the arena, without the kernel.
func BenchmarkQueue(b *testing.B) {
	s := listen(b, Config{})
	p := Path{Remote: s.local, Local: loopback("127.0.0.1").Addr()}
	q := Path{Remote: s.local, Local: loopback("127.0.0.2").Addr()}
	for name, paths := range map[string][2]Path{"joined": {p, p}, "single": {p, q}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for i := range 32 {
					s.Reserve(benchSize)
					s.Commit(benchSize, paths[i&1])
				}
				s.tx.queue = 0 // instead of a flush
				s.tx.off = 0
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*32), "ns/datagram")
		})
	}
}
