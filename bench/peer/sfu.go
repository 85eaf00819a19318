package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

type options struct{ bare bool }

const (
	mtu          = 1500
	socketBuffer = 4 << 20
	maxSDP       = 1 << 20
	trackLimit   = 20 * time.Second // that a request waits for tracks to begin
	pollEvery    = 5 * time.Millisecond
)

// server is the SFU. Rooms come to be when their name is used, and stay.
type server struct {
	api *webrtc.API
	udp net.PacketConn // nil: each connection has its own

	mu     sync.Mutex
	tracks map[string][]*track // by room
	peers  map[int]*webrtc.PeerConnection
	last   int // number of the newest peer
}

// track is what one publishes.
type track struct {
	owner string
	local *webrtc.TrackLocalStaticRTP
	key   func() // asks the publisher for a key frame
}

func newServer(o options) (*server, error) {
	s := &server{tracks: map[string][]*track{}, peers: map[int]*webrtc.PeerConnection{}}
	engine := &webrtc.MediaEngine{}
	feedback := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}}
	err := errors.Join(
		engine.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 111, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1",
		}}, webrtc.RTPCodecTypeAudio),
		engine.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 96, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: feedback,
		}}, webrtc.RTPCodecTypeVideo),
	)
	if err != nil {
		return nil, err
	}
	registry := &interceptor.Registry{}
	if !o.bare {
		if err := webrtc.RegisterDefaultInterceptors(engine, registry); err != nil {
			return nil, err
		}
	}
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() })
	settings.SetLite(true)
	if o.bare {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, err
		}
		if err := errors.Join(c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer)); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		s.udp = c
		settings.SetICEUDPMux(webrtc.NewICEUDPMux(nil, c))
	}
	s.api = webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(settings), webrtc.WithInterceptorRegistry(registry))
	return s, nil
}

// close ends all connections.
func (s *server) close() error {
	s.mu.Lock()
	peers := s.peers
	s.peers = nil
	s.mu.Unlock()
	var all []error
	for _, pc := range peers {
		all = append(all, pc.Close())
	}
	if s.udp != nil {
		all = append(all, s.udp.Close())
	}
	return errors.Join(all...)
}

// handler is the HTTP side. A publisher offers and is answered; a listener is offered what there is and answers.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /rooms/{room}/publish", s.publish)
	mux.HandleFunc("POST /rooms/{room}/receive", s.receive)
	mux.HandleFunc("POST /peers/{peer}/answer", s.answer)
	return mux
}

// connect makes a connection that ends with its transport.
func (s *server) connect(ended func()) (int, *webrtc.PeerConnection, error) {
	pc, err := s.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return 0, nil, err
	}
	s.mu.Lock()
	if s.peers == nil {
		s.mu.Unlock()
		return 0, nil, errors.Join(errors.New("the server ends"), pc.Close())
	}
	s.last++
	n := s.last
	s.peers[n] = pc
	s.mu.Unlock()
	pc.OnConnectionStateChange(func(st webrtc.PeerConnectionState) {
		if st != webrtc.PeerConnectionStateFailed && st != webrtc.PeerConnectionStateDisconnected && st != webrtc.PeerConnectionStateClosed {
			return
		}
		s.mu.Lock()
		_, known := s.peers[n]
		delete(s.peers, n)
		s.mu.Unlock()
		ended()
		if known && st != webrtc.PeerConnectionStateClosed {
			_ = pc.Close()
		}
	})
	return n, pc, nil
}

func (s *server) publish(w http.ResponseWriter, r *http.Request) {
	room, owner := r.PathValue("room"), r.URL.Query().Get("id")
	offer, err := io.ReadAll(io.LimitReader(r.Body, maxSDP))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, pc, err := s.connect(func() { s.withdraw(room, owner) })
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { s.forward(room, owner, pc, t) })
	err = pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: string(offer)})
	if err == nil {
		var answer webrtc.SessionDescription
		if answer, err = pc.CreateAnswer(nil); err == nil {
			err = describe(w, pc, answer)
		}
	}
	if err != nil {
		_ = pc.Close()
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// describe sets the local description and writes it, candidates included.
func describe(w http.ResponseWriter, pc *webrtc.PeerConnection, d webrtc.SessionDescription) error {
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(d); err != nil {
		return err
	}
	<-gathered
	w.Header().Set("Content-Type", "application/sdp")
	_, err := io.WriteString(w, pc.LocalDescription().SDP)
	return err
}

// forward is the packet path: what one connection reads goes to all others that the track was added to.
func (s *server) forward(room, owner string, pc *webrtc.PeerConnection, t *webrtc.TrackRemote) {
	local, err := webrtc.NewTrackLocalStaticRTP(t.Codec().RTPCodecCapability, t.ID(), t.StreamID())
	if err != nil {
		return
	}
	key := func() {
		_ = pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(t.SSRC())}}) // its publisher may be gone
	}
	s.mu.Lock()
	s.tracks[room] = append(s.tracks[room], &track{owner, local, key})
	s.mu.Unlock()
	b := make([]byte, mtu)
	for {
		n, _, err := t.Read(b)
		if err != nil {
			return
		}
		if _, err := local.Write(b[:n]); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			return
		}
	}
}

// withdraw forgets what one has published.
func (s *server) withdraw(room, owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.tracks[room][:0:0]
	for _, t := range s.tracks[room] {
		if t.owner != owner {
			kept = append(kept, t)
		}
	}
	s.tracks[room] = kept
}

// others returns what the others in a room publish.
func (s *server) others(room, owner string) []*track {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*track
	for _, t := range s.tracks[room] {
		if t.owner != owner {
			out = append(out, t)
		}
	}
	return out
}

// receive offers all tracks of the others. A track begins with its first packet, which is waited for: the caller says how many there
// should be.
func (s *server) receive(w http.ResponseWriter, r *http.Request) {
	room, owner := r.PathValue("room"), r.URL.Query().Get("id")
	want, err := strconv.Atoi(r.URL.Query().Get("tracks"))
	if err != nil {
		http.Error(w, "tracks: how many there should be", http.StatusBadRequest)
		return
	}
	tracks := s.others(room, owner)
	for begin := time.Now(); len(tracks) < want; tracks = s.others(room, owner) {
		select {
		case <-time.After(pollEvery):
		case <-r.Context().Done():
			return
		}
		if time.Since(begin) > trackLimit {
			http.Error(w, fmt.Sprintf("%d of %d tracks have begun", len(tracks), want), http.StatusConflict)
			return
		}
	}
	n, pc, err := s.connect(func() {})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	for _, t := range tracks {
		var sender *webrtc.RTPSender
		if sender, err = pc.AddTrack(t.local); err != nil {
			break
		}
		go heed(sender, t.key) // ends with the connection
	}
	if err == nil {
		var offer webrtc.SessionDescription
		if offer, err = pc.CreateOffer(nil); err == nil {
			w.Header().Set("Location", fmt.Sprintf("/peers/%d/answer", n))
			err = describe(w, pc, offer)
		}
	}
	if err != nil {
		_ = pc.Close()
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// heed passes wishes for key frames on.
func heed(sender *webrtc.RTPSender, key func()) {
	for {
		packets, _, err := sender.ReadRTCP()
		if err != nil {
			return
		}
		for _, p := range packets {
			if _, ok := p.(*rtcp.PictureLossIndication); ok {
				key()
			}
		}
	}
}

func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("peer"))
	s.mu.Lock()
	pc := s.peers[n]
	s.mu.Unlock()
	if err != nil || pc == nil {
		http.NotFound(w, r)
		return
	}
	answer, err := io.ReadAll(io.LimitReader(r.Body, maxSDP))
	if err == nil {
		err = pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer)})
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
