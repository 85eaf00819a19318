package failover_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"hash/maphash"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtp"

	"github.com/sotto-edge/sotto/bench/failover"
	"github.com/sotto-edge/sotto/client"
	irtp "github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// patience is how long a test waits for something before it fails.
const patience = 20 * time.Second

// The media of the test: one packet every 10 ms, sound and pictures, each with its number.
const pace = 10 * time.Millisecond

// wire form of a talker's packet behind the payload descriptor.
var marker = []byte("handover")

// keyFrame and deltaFrame are VP8 (RFC 7741 §4.2): S=1, then a frame header whose lowest bit tells them apart.
var (
	keyFrame   = []byte{0x10, 0x10, 0, 0, 0x9d, 0x01, 0x2a}
	deltaFrame = []byte{0x10, 0x11, 0, 0, 0, 0, 0}
)

// arrival is one packet of one slot.
type arrival struct {
	seq      int64 // of the leg, extended
	n        uint32
	at       time.Time
	repaired bool
}

// person is a client with everything that it sent and got.
type person struct {
	*client.Client
	tap *tap

	mu   sync.Mutex
	got  map[origin][]arrival
	sent map[wire.Source]uint32
}

// origin is whose track it is, and which.
type origin struct {
	participant string
	source      wire.Source
}

// tap is a client's socket. It sees every datagram, sealed as it is, and where it came from.
type tap struct {
	*net.UDPConn
	gcm  bool
	seed maphash.Seed

	mu      sync.Mutex
	used    map[use]uint64 // hash of the packet that used an index
	highest map[uint32]int64
	reused  int
	from    map[netip.AddrPort]int // media datagrams
	to      map[netip.AddrPort]int
	packets int
}

// use is one index of one key: SRTP counts each stream for itself, SRTCP too (RFC 3711 §3.2.1).
type use struct {
	ssrc  uint32
	rtcp  bool
	index int64
}

func (w *tap) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := w.UDPConn.ReadFrom(b)
	if err == nil && udp.Classify(b[:n]) == udp.KindRTP {
		w.note(b[:n], from.(*net.UDPAddr).AddrPort())
	}
	return n, from, err
}

func (w *tap) WriteTo(b []byte, to net.Addr) (int, error) {
	if udp.Classify(b) == udp.KindRTP {
		w.mu.Lock()
		w.to[to.(*net.UDPAddr).AddrPort()]++
		w.mu.Unlock()
	}
	return w.UDPConn.WriteTo(b, to)
}

// note keeps the index of a sealed packet, which both SRTP and SRTCP show in the clear (RFC 3711 §3.1, §3.4; RFC 7714 §9.2).
func (w *tap) note(b []byte, from netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.from[from]++
	var u use
	if irtp.IsRTCP(b) {
		tail := 4
		if !w.gcm {
			tail += 10
		}
		if len(b) < 8+tail {
			return
		}
		u = use{binary.BigEndian.Uint32(b[4:]), true, int64(binary.BigEndian.Uint32(b[len(b)-tail:]) & 0x7fffffff)}
	} else {
		ssrc, seq := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint16(b[2:])
		ext := int64(seq)
		if high, ok := w.highest[ssrc]; ok {
			ext = irtp.Extend(high, seq)
		}
		w.highest[ssrc] = max(w.highest[ssrc], ext)
		u = use{ssrc, false, ext}
	}
	sum := maphash.Bytes(w.seed, b)
	if was, ok := w.used[u]; ok && was != sum {
		w.reused++
	}
	w.used[u] = sum
	w.packets++
}

// meeting is a Lab with a room and its people.
type meeting struct {
	t    *testing.T
	lab  *failover.Lab
	url  string
	tls  *tls.Config
	room string
}

func newMeeting(t *testing.T) *meeting {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	lab, err := failover.New(failover.Config{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(lab.Handler())
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
		server.Close()
	})
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	m := &meeting{t: t, lab: lab, url: server.URL, tls: &tls.Config{RootCAs: roots}}
	opened, err := client.OpenMeeting(t.Context(), m.url, m.tls, "")
	if err != nil {
		t.Fatal(err)
	}
	m.room = opened.Room
	return m
}

// join brings somebody in who talks, shows and listens.
func (m *meeting) join(name string, profile dtls.SRTPProtectionProfile) *person {
	m.t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		m.t.Fatal(err)
	}
	p := &person{
		tap: &tap{
			UDPConn: conn, gcm: profile == dtls.SRTP_AEAD_AES_128_GCM, seed: maphash.MakeSeed(), used: make(map[use]uint64),
			highest: make(map[uint32]int64), from: make(map[netip.AddrPort]int), to: make(map[netip.AddrPort]int),
		},
		got: make(map[origin][]arrival), sent: make(map[wire.Source]uint32),
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	p.Client, err = client.Join(ctx, client.Config{
		URL: m.url, TLS: m.tls, Room: m.room, Name: name, Conn: p.tap, AutoSubscribe: true,
		Profiles: []dtls.SRTPProtectionProfile{profile},
		Publish:  []client.Publication{{Source: wire.Microphone}, {Source: wire.Camera}},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	var work sync.WaitGroup
	talking, stop := context.WithCancel(context.Background())
	m.t.Cleanup(func() {
		stop()
		_ = p.Close()
		work.Wait()
	})
	if err := p.Connected(ctx); err != nil {
		m.t.Fatalf("%s: %v", name, err)
	}
	work.Go(func() { p.talk(talking) })
	work.Go(func() {
		for s := range p.Streams() {
			work.Go(func() { p.listen(s) })
		}
	})
	return p
}

// talk sends a packet of each track every 10 ms.
func (p *person) talk(ctx context.Context) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	camera, microphone := p.Local(wire.Camera), p.Local(wire.Microphone)
	key := true
	for n := uint32(0); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case <-camera.KeyFrames():
			key = true
		default:
		}
		descriptor := deltaFrame
		if key {
			descriptor, key = keyFrame, false
		}
		// 65500: both wrap soon after the start.
		header := rtp.Header{Version: 2, SequenceNumber: uint16(65500 + n), Timestamp: n * 480}
		_ = microphone.WriteRTP(&rtp.Packet{Header: header, Payload: numbered(nil, n)})
		header.Marker, header.Timestamp = true, n*900
		_ = camera.WriteRTP(&rtp.Packet{Header: header, Payload: numbered(descriptor, n)})
		p.mu.Lock()
		p.sent[wire.Camera], p.sent[wire.Microphone] = n, n
		p.mu.Unlock()
	}
}

func numbered(descriptor []byte, n uint32) []byte {
	b := append(append([]byte(nil), descriptor...), marker...)
	return binary.BigEndian.AppendUint32(b, n)
}

// listen keeps what comes of one track.
func (p *person) listen(s *client.Stream) {
	high, of := int64(-1), origin{s.Participant, s.Track.Source}
	for pkt := range s.Packets() {
		_, rest, ok := bytes.Cut(pkt.Payload, marker)
		if !ok || len(rest) < 4 {
			continue
		}
		ext := int64(pkt.SequenceNumber)
		if high >= 0 {
			ext = irtp.Extend(high, pkt.SequenceNumber)
		}
		high = max(high, ext)
		p.mu.Lock()
		p.got[of] = append(p.got[of], arrival{ext, binary.BigEndian.Uint32(rest), pkt.Arrived, pkt.Repaired})
		p.mu.Unlock()
	}
}

// from returns what has come of somebody's track.
func (p *person) from(other *person, s wire.Source) []arrival {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got[origin{other.Participant(), s}])
}

func (p *person) count(other *person, s wire.Source) int { return len(p.from(other, s)) }

// newest is the highest number that has come of somebody's track.
func (p *person) newest(other *person, s wire.Source) (n uint32) {
	for _, a := range p.from(other, s) {
		n = max(n, a.n)
	}
	return n
}

// eventually polls. What stands behind the condition is called when it never comes true.
func eventually(t *testing.T, what string, f func() bool, failed ...func()) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !f(); <-tick.C {
		if time.Now().After(end) {
			for _, say := range failed {
				say()
			}
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}
