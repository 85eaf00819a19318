package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"flag"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/wire"
	"github.com/sotto-edge/sotto/signaling/ws"
)

// patience is how long a test waits for something before it fails. On a quiet machine everything takes milliseconds.
const patience = 20 * time.Second

// Meetings are spread over shards as far as they can be, so that nearly everything crosses.
var shards = flag.Int("shards", 2, "shards of the node under test")

// server is a whole appliance but for its command line: media, signaling and the front door, on loopback, over TLS.
type server struct {
	node *sfu.Node
	svc  *signaling.Service
	http *httptest.Server
	tls  *tls.Config
	stop func() error
}

func newServer(t testing.TB, change func(*signaling.Config), media ...func(*sfu.Config)) *server {
	t.Helper()
	s, err := startServer(slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})), change, media...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func startServer(log *slog.Logger, change func(*signaling.Config), settings ...func(*sfu.Config)) (*server, error) {
	s := &server{}
	rooms := signaling.NewRooms(id.NewRooms([32]byte{7}), nil)
	media := &signaling.NodeMedia{}
	cfg := signaling.Config{
		Media: media, Auth: &signaling.Tokens{Signer: token.NewSigner(token.Seed{})}, Directory: rooms, Participants: 500,
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if s.svc, err = signaling.New(cfg, log); err != nil {
		return nil, err
	}
	loopback := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	node := sfu.Config{Listen: loopback, Observer: s.svc, Shards: *shards, Together: 1, Steering: sfu.NoSteering{}}
	for _, f := range settings {
		f(&node)
	}
	if s.node, err = sfu.NewNode(node, log); err != nil {
		return nil, errors.Join(err, s.svc.Close())
	}
	media.Node = s.node
	s.http = httptest.NewUnstartedServer(ws.New(s.svc, ws.Config{}, log))
	s.http.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug) // handshakes that tests break off
	s.http.StartTLS()
	roots := x509.NewCertPool()
	roots.AddCert(s.http.Certificate())
	s.tls = &tls.Config{RootCAs: roots}
	s.stop = sync.OnceValue(func() error {
		err := s.svc.Close()
		s.http.Close()
		return errors.Join(err, s.node.Close())
	})
	return s, nil
}

// meeting is one room of a server.
type meeting struct {
	t *testing.T
	*server
	wire.Meeting
}

func (s *server) open(t *testing.T) *meeting {
	t.Helper()
	m, err := client.OpenMeeting(t.Context(), s.http.URL, s.tls, "")
	if err != nil {
		t.Fatal(err)
	}
	return &meeting{t, s, m}
}

// newMeeting is a room of a server of its own.
func newMeeting(t *testing.T) *meeting {
	t.Helper()
	return newServer(t, nil).open(t)
}

// member is a client of a test.
type member struct {
	t *testing.T
	*client.Client
	kept []*client.Stream // not asked for yet
}

// join joins and waits for the media. The client is closed with the test.
func (m *meeting) join(name string, change func(*client.Config)) *member {
	m.t.Helper()
	cfg := client.Config{URL: m.http.URL, Room: m.Room, Name: name, TLS: m.tls}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	c, err := client.Join(ctx, cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = c.Close() })
	if err := c.Connected(ctx); err != nil {
		m.t.Fatalf("%s: %v", name, err)
	}
	return &member{t: m.t, Client: c}
}

func (m *meeting) host(cfg *client.Config) { cfg.HostToken = m.HostToken }

func publish(p ...client.Publication) func(*client.Config) {
	return func(cfg *client.Config) { cfg.Publish = append(cfg.Publish, p...) }
}

func auto(cfg *client.Config) { cfg.AutoSubscribe = true }

func with(all ...func(*client.Config)) func(*client.Config) {
	return func(cfg *client.Config) {
		for _, f := range all {
			f(cfg)
		}
	}
}

var (
	microphone = client.Publication{Source: wire.Microphone}
	camera     = client.Publication{Source: wire.Camera}
)

// must makes a call with a time limit.
func must(t *testing.T, what string, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f(ctx); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// receive takes the next message of a channel.
func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v, ok := <-ch:
		if !ok {
			t.Fatalf("%s: the channel is closed", what)
		}
		return v
	case <-timer.C:
	}
	t.Fatalf("%s does not come", what)
	panic("unreachable")
}

// await takes messages until one is as wanted.
func await[T any](t *testing.T, what string, ch <-chan T, wanted func(T) bool) T {
	t.Helper()
	for {
		if v := receive(t, what, ch); wanted(v) {
			return v
		}
	}
}

// event takes events until one is of the type and as wanted; a nil function takes any.
func event[E client.Event](m *member, wanted func(E) bool) E {
	m.t.Helper()
	var found E
	await(m.t, "event "+kindOf[E](), m.Events(), func(e client.Event) bool {
		var ok bool
		found, ok = e.(E)
		return ok && (wanted == nil || wanted(found))
	})
	return found
}

func kindOf[E client.Event]() string {
	var e E
	return e.Kind()
}

// stream waits for a stream of the source. Others are kept for later calls.
func (m *member) stream(s wire.Source) *client.Stream {
	m.t.Helper()
	wanted := func(v *client.Stream) bool { return v.Track.Source == s }
	if i := slices.IndexFunc(m.kept, wanted); i >= 0 {
		v := m.kept[i]
		m.kept = slices.Delete(m.kept, i, i+1)
		return v
	}
	return await(m.t, "stream of "+string(s), m.Streams(), func(v *client.Stream) bool {
		if !wanted(v) {
			m.kept = append(m.kept, v)
		}
		return wanted(v)
	})
}

// eventually polls.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// talker writes numbered packets to a track, paced, until the test ends: each carries its number and when it was sent.
type talker struct {
	track   *client.LocalTrack
	layers  atomic.Int32
	video   bool
	sent    atomic.Uint32 // packets of one layer
	keys    atomic.Int32  // key frames sent
	asked   atomic.Int32  // key frames asked for
	silent  atomic.Bool
	level   atomic.Uint32 // of speak
	from    uint16
	base    uint32
	codec   string              // of pictures; empty: vp8
	dress   func(p *rtp.Packet) // adds extensions
	stop    context.CancelFunc
	stopped sync.WaitGroup
}

const frameEvery = 10 * time.Millisecond // what every packet of a talker stands for

// talk starts a talker on a track.
func talk(t *testing.T, track *client.LocalTrack, change func(*talker)) *talker {
	t.Helper()
	w := &talker{track: track, from: 65500, base: 1 << 31, video: track.Source() == wire.Camera || track.Source() == wire.Screen}
	if change != nil {
		change(w)
	}
	var ctx context.Context
	ctx, w.stop = context.WithCancel(t.Context())
	w.stopped.Go(func() { w.run(ctx, t) })
	t.Cleanup(w.quit)
	return w
}

func (w *talker) quit() {
	w.stop()
	w.stopped.Wait()
}

func (w *talker) run(ctx context.Context, t *testing.T) {
	tick := time.NewTicker(frameEvery)
	defer tick.Stop()
	key := true
	for n := uint32(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-w.track.KeyFrames():
			w.asked.Add(1)
			key = true
			continue
		case <-tick.C:
		}
		if w.silent.Load() || w.track.Layers() == 0 {
			continue
		}
		for layer := range max(1, min(int(w.layers.Load()), w.track.Layers())) {
			p := w.packet(n, layer, key)
			if err := w.track.WriteLayer(layer, p); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				t.Logf("write: %v", err)
			}
		}
		if key && w.video {
			w.keys.Add(1)
		}
		key = false
		n++
		w.sent.Store(n)
	}
}

// marker begins what a talker writes behind the payload descriptor.
var marker = []byte("sotto test")

func (w *talker) packet(n uint32, layer int, key bool) *rtp.Packet {
	clock := uint32(480) // 10 ms
	payload := []byte{}
	if w.video {
		clock = 900
		payload = append(payload, descriptor(w.codec, key)...)
	}
	payload = append(payload, marker...)
	payload = binary.BigEndian.AppendUint32(payload, n)
	payload = append(payload, byte(layer))
	p := &rtp.Packet{Payload: payload, Header: rtp.Header{
		Version: 2, Marker: w.video, SequenceNumber: w.from + uint16(n), Timestamp: w.base + n*clock,
	}}
	if w.dress != nil {
		w.dress(p)
	}
	return p
}

// descriptor begins the payload of a one-packet frame.
func descriptor(codec string, key bool) []byte {
	switch {
	case codec == "vp9" && key: // RFC 9628 §4.2: B=1, E=1
		return []byte{0x0c}
	case codec == "vp9":
		return []byte{0x4c} // P=1
	case codec == "h264" && key: // RFC 6184 §5.2: a NAL unit of type 5
		return []byte{0x65}
	case codec == "h264":
		return []byte{0x41}
	case codec == "av1" && key: // RTP payload format for AV1 §4.4: W=1, N=1
		return []byte{0x18, 0x08}
	case codec == "av1":
		return []byte{0x10, 0x30}
	case key: // RFC 7741 §4.2: S=1; then a frame header, whose lowest bit says that it is a key frame
		return []byte{0x10, 0x10, 0, 0, 0x9d, 0x01, 0x2a}
	}
	return []byte{0x10, 0x11, 0, 0, 0, 0, 0}
}

// number returns the number and layer of a talker's packet.
func number(p client.Packet) (n uint32, layer byte, ok bool) {
	i := bytes.Index(p.Payload, marker)
	if i < 0 || len(p.Payload) < i+len(marker)+5 {
		return 0, 0, false
	}
	rest := p.Payload[i+len(marker):]
	return binary.BigEndian.Uint32(rest), rest[4], true
}

// isKey says whether a packet is one of a talker's key frames in VP8.
func isKey(p client.Packet) bool { return bytes.HasPrefix(p.Payload, descriptor("", true)) }

// read takes n packets of a stream.
func read(t *testing.T, s *client.Stream, n int) []client.Packet {
	t.Helper()
	out := make([]client.Packet, 0, n)
	for range n {
		out = append(out, receive(t, "packet of "+string(s.Track.Source), s.Packets()))
	}
	return out
}

// continuous checks that packets of one slot go on without a break: SSRC, numbers, timestamps; each packet once.
func continuous(t *testing.T, packets []client.Packet, clock uint32) {
	t.Helper()
	if len(packets) == 0 {
		t.Fatal("no packets")
	}
	first := packets[0]
	n0, _, ok := number(first)
	if !ok {
		t.Fatalf("packet is not of a talker: %x", first.Payload)
	}
	for i, p := range packets {
		n, _, ok := number(p)
		switch {
		case !ok:
			t.Fatalf("packet %d is not of a talker: %x", i, p.Payload)
		case p.SSRC != first.SSRC:
			t.Fatalf("packet %d: SSRC %x after %x", i, p.SSRC, first.SSRC)
		case p.SequenceNumber != first.SequenceNumber+uint16(i):
			t.Fatalf("packet %d: sequence number %d, the first was %d", i, p.SequenceNumber, first.SequenceNumber)
		case n != n0+uint32(i):
			t.Fatalf("packet %d: carries number %d, the first %d", i, n, n0)
		case p.Timestamp != first.Timestamp+uint32(i)*clock:
			t.Fatalf("packet %d: timestamp %d, the first was %d", i, p.Timestamp, first.Timestamp)
		}
	}
}

const (
	audioClock = 480
	videoClock = 900
)

// wrapped is a socket that may lose packets in either direction, and sees them all.
type wrapped struct {
	*net.UDPConn
	in, out func(b []byte) (lose bool)
}

// socket returns a socket for Config.Conn. in and out are called for each datagram, from several goroutines.
func socket(t *testing.T, in, out func(b []byte) bool) func(*client.Config) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *client.Config) { cfg.Conn = &wrapped{conn, in, out} }
}

func (w *wrapped) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := w.UDPConn.ReadFrom(b)
		if err != nil || w.in == nil || !w.in(b[:n]) {
			return n, from, err
		}
	}
}

func (w *wrapped) WriteTo(b []byte, to net.Addr) (int, error) {
	if w.out != nil && w.out(b) {
		return len(b), nil
	}
	return w.UDPConn.WriteTo(b, to)
}

// header reads the clear header of an SRTP packet, nil for anything else (RFC 7983 §7, RFC 5761 §4).
func header(b []byte) *rtp.Header {
	h := &rtp.Header{}
	if len(b) < 12 || b[0] < 128 || b[0] > 191 || b[1] >= 192 && b[1] <= 223 {
		return nil
	}
	if _, err := h.Unmarshal(b); err != nil {
		return nil
	}
	return h
}

// proxy is a TCP relay in front of the server whose connections can be cut.
type proxy struct {
	net.Listener

	mu     sync.Mutex
	to     string
	conns  map[net.Conn]bool
	refuse bool
	work   sync.WaitGroup
}

func newProxy(t *testing.T, s *server) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, conns: map[net.Conn]bool{}, to: strings.TrimPrefix(s.http.URL, "https://")}
	p.work.Go(p.accept)
	t.Cleanup(p.end)
	return p
}

// end closes everything and waits. It may be called twice.
func (p *proxy) end() {
	_ = p.Close()
	p.cut(true)
	p.work.Wait()
}

func (p *proxy) url() string { return "https://" + p.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		to := p.to
		p.mu.Unlock()
		out, err := net.Dial("tcp", to)
		p.mu.Lock()
		refuse := p.refuse || err != nil
		if !refuse {
			p.conns[in], p.conns[out] = true, true
		}
		p.mu.Unlock()
		if refuse {
			_ = in.Close()
			if err == nil {
				_ = out.Close()
			}
			continue
		}
		p.work.Go(func() { p.relay(in, out) })
		p.work.Go(func() { p.relay(out, in) })
	}
}

func (p *proxy) relay(from, to net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = from.Close()
	_ = to.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, from)
}

// cut ends every connection; refuse says whether new ones are let in.
func (p *proxy) cut(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
	for c := range p.conns {
		_ = c.Close()
	}
}

// redirect makes new connections lead to another server.
func (p *proxy) redirect(s *server) {
	p.mu.Lock()
	p.to = strings.TrimPrefix(s.http.URL, "https://")
	p.mu.Unlock()
	p.cut(false)
}

// insecure trusts whoever answers: test servers have a certificate each.
func insecure(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.InsecureSkipVerify = true
	return cfg
}

// cipher returns the SRTP profile that the server has with a participant.
func (m *meeting) cipher(t *testing.T, participant string) string {
	t.Helper()
	var found string
	eventually(t, "handshake of "+participant+" at the server", func() bool {
		all, err := m.node.Conferences(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			for _, e := range c.Endpoints {
				if string(e.Participant) == participant {
					found = e.Cipher
				}
			}
		}
		return found != ""
	})
	return found
}

func (m *meeting) stats() sfu.Stats {
	m.t.Helper()
	st, err := m.node.Stats(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return st
}

// nacked returns the sequence numbers that a packet asks for.
func nacked(p rtcp.Packet) []uint16 {
	n, ok := p.(*rtcp.TransportLayerNack)
	if !ok {
		return nil
	}
	var out []uint16
	for _, pair := range n.Nacks {
		out = append(out, pair.PacketList()...)
	}
	slices.Sort(out)
	return out
}
