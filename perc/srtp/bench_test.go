package srtp

import (
	"encoding/binary"
	"strconv"
	"testing"

	"github.com/pion/rtp"
)

// The sizes are an Opus frame and a full video packet.
var benchSizes = []int{100, 1050}

func eachBench(b *testing.B, f func(b *testing.B, p Profile, n int)) {
	for _, p := range profiles {
		for _, n := range benchSizes {
			b.Run(p.String()+"/"+strconv.Itoa(n), func(b *testing.B) {
				b.ReportAllocs()
				f(b, p, n)
			})
		}
	}
}

func BenchmarkSealRTP(b *testing.B) {
	eachBench(b, func(b *testing.B, p Profile, n int) {
		c := newTestContext(b, p, Sender)
		s := stream(b, c, 1)
		h, body := header(1, 0), make([]byte, n)
		var index uint64
		for b.Loop() {
			index++
			binary.BigEndian.PutUint16(h[2:], uint16(index))
			if _, err := c.SealRTP(s, index, h, body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSealRTPPion(b *testing.B) {
	eachBench(b, func(b *testing.B, p Profile, n int) {
		c := newPion(b, p)
		pkt, out := append(header(1, 0), make([]byte, n)...), make([]byte, 0, 2000)
		var h rtp.Header
		var seq uint16
		for b.Loop() {
			seq++
			binary.BigEndian.PutUint16(pkt[2:], seq)
			if _, err := c.EncryptRTP(out, pkt, &h); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// openBatch is how many packets are sealed at a time to be opened.
const openBatch = 1 << 12

// benchOpen calls open with packets that arrive in order for ever. Sealing
// them is not measured.
func benchOpen(b *testing.B, p Profile, n int, open func(pkt []byte) error) {
	c := newTestContext(b, p, Sender)
	s := stream(b, c, 1)
	pkts := make([][]byte, openBatch)
	for i := range pkts {
		pkts[i] = header(1, 0)
	}
	body := make([]byte, n)
	var index uint64
	for b.Loop() {
		if index%openBatch == 0 {
			b.StopTimer()
			for i := range pkts {
				at := index + uint64(i)
				h := pkts[i][:rtpHeaderLen]
				binary.BigEndian.PutUint16(h[2:], uint16(at))
				var err error
				if pkts[i], err = c.SealRTP(s, at, h, body); err != nil {
					b.Fatal(err)
				}
			}
			b.StartTimer()
		}
		if err := open(pkts[index%openBatch]); err != nil {
			b.Fatal(err)
		}
		index++
	}
}

func BenchmarkOpenRTP(b *testing.B) {
	eachBench(b, func(b *testing.B, p Profile, n int) {
		c, out := newTestContext(b, p, Receiver), make([]byte, 0, 2000)
		benchOpen(b, p, n, func(pkt []byte) error {
			_, _, err := c.OpenRTP(out, pkt, rtpHeaderLen)
			return err
		})
	})
}

func BenchmarkOpenRTPPion(b *testing.B) {
	eachBench(b, func(b *testing.B, p Profile, n int) {
		c, out := newPion(b, p), make([]byte, 0, 2000)
		var h rtp.Header
		benchOpen(b, p, n, func(pkt []byte) error {
			_, err := c.DecryptRTP(out, pkt, &h)
			return err
		})
	})
}

func BenchmarkRTCP(b *testing.B) {
	eachBench(b, func(b *testing.B, p Profile, n int) {
		sender, receiver := newTestContext(b, p, Sender), newTestContext(b, p, Receiver)
		pkt, sealed, out := compound(1, n), make([]byte, 0, 2000), make([]byte, 0, 2000)
		for b.Loop() {
			s, err := sender.SealRTCP(sealed, pkt)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := receiver.OpenRTCP(out, s); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkNew is what a leg pays once for each direction.
func BenchmarkNew(b *testing.B) {
	for _, p := range profiles {
		b.Run(p.String(), func(b *testing.B) {
			b.ReportAllocs()
			key, salt := testMaster(p)
			k, err := NewKeys(p, key, salt)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := New(k, Sender); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkKeystream shows from which length bulk pays (minBulk).
func BenchmarkKeystream(b *testing.B) {
	for _, n := range []int{32, 48, 64, 96, 128, 1050} {
		for _, long := range []bool{false, true} {
			b.Run(strconv.Itoa(n)+"/bulk="+strconv.FormatBool(long), func(b *testing.B) {
				k, err := newKeystream(make([]byte, 16), new([maxSaltLen]byte), long)
				if err != nil {
					b.Fatal(err)
				}
				buf := make([]byte, n)
				var index uint64
				for b.Loop() {
					index++
					k.xor(buf, buf, 1, index)
				}
			})
		}
	}
}
