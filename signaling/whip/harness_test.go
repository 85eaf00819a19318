package whip

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling"
)

// patience is how long a test waits for what should take milliseconds.
const patience = 20 * time.Second

// world is the front door, with a real media node behind it.
type world struct {
	t      *testing.T
	svc    *signaling.Service
	node   *sfu.Node
	tokens *signaling.Tokens
	room   string
	host   string
	web    *httptest.Server
}

func newWorld(t *testing.T, change func(*Config, *signaling.Config)) *world {
	t.Helper()
	rooms := signaling.NewRooms(id.NewRooms([32]byte{1}), nil)
	w := &world{t: t, tokens: &signaling.Tokens{Signer: token.NewSigner(token.NewSeed()), Owner: token.NewBearer("owner")}}
	media := &signaling.NodeMedia{}
	door, cfg := Config{}, signaling.Config{Media: media, Auth: w.tokens, Streams: w.tokens, Directory: rooms}
	if change != nil {
		change(&door, &cfg)
	}
	var err error
	if w.svc, err = signaling.New(cfg, nil); err != nil {
		t.Fatal(err)
	}
	if w.node, err = sfu.NewNode(sfu.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Observer: w.svc}, nil); err != nil {
		t.Fatal(err)
	}
	media.Node = w.node
	m, err := w.svc.OpenMeeting(t.Context(), signaling.Caller{Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	w.room, w.host = m.Room, m.HostToken
	w.web = httptest.NewTLSServer(New(w.svc, door, nil))
	t.Cleanup(func() {
		w.web.Close()
		if err := w.svc.Close(); err != nil {
			t.Error(err)
		}
		if st := w.svc.Stats(); st.Rooms != 0 || st.Sessions != 0 || st.Viewers != 0 {
			t.Errorf("after Close: %+v", st)
		}
		if err := w.node.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// reply is what the front door said.
type reply struct {
	status int
	header http.Header
	body   string
}

// call makes a request; the header is given by pairs.
func (w *world) call(method, path, body string, header ...string) reply {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, w.web.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := w.web.Client().Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(text)}
}

// until waits for something to be so, looking again whenever time has passed for it to become so.
func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// names is the roster.
func (w *world) names() string {
	info, _ := w.svc.Room(w.room)
	var out []string
	for _, p := range info.Participants {
		out = append(out, p.Name)
	}
	return strings.Join(out, ",")
}

// peer is a WHIP or WHEP client.
type peer struct {
	w      *world
	pc     *webrtc.PeerConnection
	url    string
	etag   string
	answer string
	state  chan webrtc.PeerConnectionState

	mu   sync.Mutex
	last map[webrtc.RTPCodecType]uint32 // the newest number received
}

func (w *world) peer(change ...func(*webrtc.MediaEngine, *interceptor.Registry)) *peer {
	w.t.Helper()
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetIPFilter(net.IP.IsLoopback)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	var engine webrtc.MediaEngine
	if err := engine.RegisterDefaultCodecs(); err != nil {
		w.t.Fatal(err)
	}
	registry := &interceptor.Registry{}
	for _, f := range change {
		f(&engine, registry)
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&engine), webrtc.WithSettingEngine(settings), webrtc.WithInterceptorRegistry(registry))
	pc, err := api.NewPeerConnection(webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle})
	if err != nil {
		w.t.Fatal(err)
	}
	p := &peer{w: w, pc: pc, state: make(chan webrtc.PeerConnectionState, 16), last: map[webrtc.RTPCodecType]uint32{}}
	w.t.Cleanup(func() { _ = pc.Close() })
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) { p.state <- s })
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			packet, _, err := t.ReadRTP()
			if err != nil {
				return
			}
			if n := len(packet.Payload); n >= 4 {
				p.mu.Lock()
				p.last[t.Kind()] = binary.BigEndian.Uint32(packet.Payload[n-4:])
				p.mu.Unlock()
			}
		}
	})
	return p
}

// seen returns the newest number received.
func (p *peer) seen(k webrtc.RTPCodecType) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[k]
}

// offer returns a complete offer.
func (p *peer) offer(o *webrtc.OfferOptions) string {
	p.w.t.Helper()
	offer, err := p.pc.CreateOffer(o)
	if err != nil {
		p.w.t.Fatal(err)
	}
	done := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(offer); err != nil {
		p.w.t.Fatal(err)
	}
	<-done
	return p.pc.LocalDescription().SDP
}

// open makes the session.
func (p *peer) open(path string, header ...string) {
	p.w.t.Helper()
	r := p.w.call(http.MethodPost, path, p.offer(nil), append([]string{"Content-Type", "application/sdp"}, header...)...)
	if r.status != http.StatusCreated || r.header.Get("Content-Type") != "application/sdp" {
		p.w.t.Fatalf("status %d: %s", r.status, r.body)
	}
	p.url, p.etag, p.answer = r.header.Get("Location"), r.header.Get("ETag"), r.body
	p.accept(r.body)
}

func (p *peer) accept(answer string) {
	p.w.t.Helper()
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		p.w.t.Fatalf("%v in\n%s", err, answer)
	}
}

// becomes waits for a state of the connection.
func (p *peer) becomes(want webrtc.PeerConnectionState) {
	p.w.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case s := <-p.state:
			if s == want {
				return
			}
		case <-deadline:
			p.w.t.Fatalf("waited %v for %v, is %v", patience, want, p.pc.ConnectionState())
		}
	}
}

// publisher is a WHIP client that sends numbered packets until the test ends, every picture a key frame.
func (w *world) publisher(first uint32, header ...string) *peer {
	w.t.Helper()
	p := w.peer()
	video, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}, "v", "s")
	if err != nil {
		w.t.Fatal(err)
	}
	audio, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, "a", "s")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, t := range []webrtc.TrackLocal{audio, video} {
		if _, err := p.pc.AddTransceiverFromTrack(t, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}); err != nil {
			w.t.Fatal(err)
		}
	}
	p.open("/whip/"+w.room, header...)
	stop, done := make(chan struct{}), make(chan struct{})
	w.t.Cleanup(func() { close(stop); <-done })
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := first; ; n++ {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
			number := binary.BigEndian.AppendUint32(nil, n)
			key := append([]byte{0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00}, number...) // RFC 7741 §4.2, RFC 6386 §9.1
			// An error says that the connection is closed: the test is about to end, or ends it on purpose.
			_ = video.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, Marker: true, SequenceNumber: uint16(n), Timestamp: n * 1800}, Payload: key})
			_ = audio.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: uint16(n), Timestamp: n * 960}, Payload: append([]byte{0xfc}, number...)})
		}
	}()
	p.becomes(webrtc.PeerConnectionStateConnected)
	return p
}

// viewer is a WHEP client.
func (w *world) viewer(header ...string) *peer {
	w.t.Helper()
	return w.watch(w.peer(), header...)
}

// watch makes a viewer of p.
func (w *world) watch(p *peer, header ...string) *peer {
	w.t.Helper()
	for _, k := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
		if _, err := p.pc.AddTransceiverFromKind(k, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			w.t.Fatal(err)
		}
	}
	p.open("/whep/"+w.room, header...)
	p.becomes(webrtc.PeerConnectionStateConnected)
	return p
}

// sees waits until the viewer has sound and pictures of numbers from first on.
func (p *peer) sees(first uint32) {
	p.w.t.Helper()
	for _, k := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
		p.w.until(k.String(), func() bool { n := p.seen(k); return n >= first && n < first+1e6 })
	}
}
