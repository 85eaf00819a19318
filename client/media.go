package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"github.com/sotto-edge/sotto/signaling/wire"
)

// receiveMTU bounds one received packet.
const receiveMTU = 2000

// queuedOffers is more than can be outstanding: one, and the next behind its answer.
const queuedOffers = 4

// media is the PeerConnection: it answers the server's offers, and knows which m-line carries what.
type media struct {
	c      *Client
	api    *webrtc.API
	pc     *webrtc.PeerConnection
	mux    ice.UDPMux // nil without Config.Conn
	offers *queue[*wire.Offer]
	// negotiating is the goroutine that does; it ends before the rest is closed.
	negotiating sync.WaitGroup

	began time.Time
	// checking is closed when the ICE agent has begun, and knows the server's credentials.
	checking chan struct{}
	dataOver chan struct{} // closed when nobody reads data any more

	mu      sync.Mutex
	closed  bool
	locals  map[wire.Source]*LocalTrack
	slots   map[string]*slot
	bound   map[string]*binding // of negotiate alone, by m-line
	gaps    chan struct{}       // a slot misses packets
	state   webrtc.PeerConnectionState
	changed chan struct{} // closed when state changes, and made anew
}

func newMedia(c *Client) (*media, error) {
	m := &media{
		c: c, began: time.Now(), offers: newQueue[*wire.Offer](queuedOffers), locals: map[wire.Source]*LocalTrack{}, slots: map[string]*slot{},
		bound: map[string]*binding{}, gaps: make(chan struct{}, 1), checking: make(chan struct{}), dataOver: make(chan struct{}), changed: make(chan struct{}),
	}
	engine := &webrtc.MediaEngine{}
	if err := register(engine); err != nil {
		return nil, fmt.Errorf("client: codecs: %w", err)
	}
	registry := &interceptor.Registry{}
	if err := intercept(registry, pionLog{c.log}, !c.cfg.NoFeedback); err != nil {
		return nil, fmt.Errorf("client: interceptors: %w", err)
	}
	s, err := m.settings()
	if err != nil {
		return nil, err
	}
	m.api = webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(s), webrtc.WithInterceptorRegistry(registry))
	if m.pc, err = m.api.NewPeerConnection(webrtc.Configuration{}); err != nil {
		return nil, fmt.Errorf("client: %w", errors.Join(err, m.closeMux()))
	}
	m.pc.OnTrack(m.receive)
	m.pc.OnDataChannel(m.receiveData)
	m.pc.OnConnectionStateChange(m.changeState)
	checking := sync.OnceFunc(func() { close(m.checking) })
	m.pc.OnICEConnectionStateChange(func(st webrtc.ICEConnectionState) {
		if st != webrtc.ICEConnectionStateNew {
			checking()
		}
	})
	return m, nil
}

func (m *media) settings() (webrtc.SettingEngine, error) {
	var s webrtc.SettingEngine
	s.LoggerFactory = pionLog{m.c.log}
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	s.SetIncludeLoopbackCandidate(true)
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.DisableActiveTCP(!m.c.cfg.TCP)
	if m.c.cfg.TCP {
		s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6})
	}
	// The agent would wait for better pairs that cannot come: the server's candidates are all in the offer.
	s.SetHostAcceptanceMinWait(0)
	s.SetPrflxAcceptanceMinWait(0)
	s.SetSrflxAcceptanceMinWait(0)
	s.SetRelayAcceptanceMinWait(0)
	s.SetReceiveMTU(receiveMTU)
	s.SetSCTPMaxMessageSize(maxDataBytes)
	// The server's goodbye may be quicker than the reply to what caused it. It is run that closes.
	s.DisableCloseByDTLS(true)
	// Slots are known before their first packet, so that none is lost while its track is looked for.
	s.SetFireOnTrackBeforeFirstRTP(true)
	if err := s.SetAnsweringDTLSRole(webrtc.DTLSRoleClient); err != nil {
		return s, fmt.Errorf("client: %w", err)
	}
	profiles := m.c.cfg.Profiles
	if len(profiles) == 0 {
		profiles = []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80}
	}
	s.SetSRTPProtectionProfiles(profiles...)
	if conn := m.c.cfg.Conn; conn != nil {
		m.mux = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: conn, Logger: s.LoggerFactory.NewLogger("ice")})
		s.SetICEUDPMux(m.mux)
	}
	return s, nil
}

func (m *media) closeMux() error {
	if m.mux == nil {
		return nil
	}
	return m.mux.Close()
}

// goes starts a goroutine of the client, unless it is too late. The lock is held.
func (m *media) goes(f func()) {
	if !m.closed {
		m.c.work.Go(f)
	}
}

// close ends the media. Nothing is started after it.
func (m *media) close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	close(m.dataOver)
	m.offers.close()
	m.negotiating.Wait() // pion leaves an agent behind that is made while it closes
	err := errors.Join(m.pc.GracefulClose(), m.closeMux())
	m.mu.Lock() // subscriptions may have been bound until now
	slots, locals := maps.Clone(m.slots), maps.Clone(m.locals)
	m.mu.Unlock()
	for _, s := range slots {
		s.end()
	}
	for _, t := range locals {
		t.end()
	}
	return err
}

func (m *media) changeState(st webrtc.PeerConnectionState) {
	m.mu.Lock()
	m.state = st
	close(m.changed)
	m.changed = make(chan struct{})
	m.mu.Unlock()
	to := map[webrtc.PeerConnectionState]wire.MediaState{
		webrtc.PeerConnectionStateConnecting:   wire.MediaConnecting,
		webrtc.PeerConnectionStateConnected:    wire.MediaConnected,
		webrtc.PeerConnectionStateDisconnected: wire.MediaDisconnected,
		webrtc.PeerConnectionStateFailed:       wire.MediaFailed,
		webrtc.PeerConnectionStateClosed:       wire.MediaClosed,
	}
	if to[st] != "" {
		m.c.events.put(&Transport{State: to[st]})
	}
}

func (m *media) connected(ctx context.Context) error {
	for {
		m.mu.Lock()
		st, changed := m.state, m.changed
		m.mu.Unlock()
		switch st {
		case webrtc.PeerConnectionStateConnected:
			return nil
		case webrtc.PeerConnectionStateFailed:
			return errors.New("client: no way to the server was found, or DTLS failed")
		case webrtc.PeerConnectionStateClosed:
			<-m.c.done
			return m.c.err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("client: media %s: %w", st, ctx.Err())
		case <-m.c.done:
			return m.c.err
		}
	}
}

// add makes a track for a publication that is about to be announced: its offer may be quicker than the reply.
func (m *media) add(p Publication) (*LocalTrack, error) {
	t, err := newLocalTrack(p)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	if m.locals[p.Source] != nil {
		return nil, fmt.Errorf("client: %s is published already", p.Source)
	}
	m.locals[p.Source] = t
	return t, nil
}

func (m *media) remove(t *LocalTrack) {
	m.mu.Lock()
	if m.locals[t.source] == t {
		delete(m.locals, t.source)
	}
	m.mu.Unlock()
	t.end()
}

func (m *media) local(s wire.Source) *LocalTrack {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.locals[s]
}

func (m *media) identify(own wire.OwnTrack) {
	if t := m.local(own.Source); t != nil {
		t.id.Store(&own.Track)
	}
}

// demand follows a demand event.
func (m *media) demand(d *wire.Demand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.locals {
		if t.ID() == d.Track {
			t.wanted.Store(int32(d.Layers))
		}
	}
}

// negotiate answers offers, one after the other.
func (m *media) negotiate(ctx context.Context) {
	for o := range m.offers.ch {
		err := m.answer(ctx, o)
		var refused *wire.Error
		switch {
		case err == nil, ctx.Err() != nil:
		case errors.As(err, &refused) && (refused.Code == wire.StaleOffer || refused.Code == wire.SessionGone):
			m.c.log.Info("client: answer came late", slog.Int("offer", o.Number), slog.Any("error", err))
		default: // without an answer the server has nothing more to say
			m.c.log.Error("client: negotiation failed", slog.Int("offer", o.Number), slog.Any("error", err))
			m.c.link.abort(fmt.Errorf("client: offer %d: %w", o.Number, err), true)
		}
	}
}

func (m *media) answer(ctx context.Context, o *wire.Offer) error {
	if m.pc.RemoteDescription() != nil {
		// pion would take the second offer for an ICE restart if its agent had not begun with the first.
		select {
		case <-m.checking:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	offer := webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: o.SDP}
	if err := m.pc.SetRemoteDescription(offer); err != nil {
		return fmt.Errorf("set the offer: %w", err)
	}
	if err := m.attach(o); err != nil {
		return err
	}
	answer, err := m.pc.CreateAnswer(nil)
	if err != nil {
		return fmt.Errorf("make the answer: %w", err)
	}
	if err := m.pc.SetLocalDescription(answer); err != nil {
		return fmt.Errorf("set the answer: %w", err)
	}
	// Candidates are not waited for: the server sends to where authenticated checks come from (decision 4).
	_, err = request[*wire.AnswerOK](ctx, m.c, &wire.Answer{Number: o.Number, SDP: onlySending(answer.SDP)})
	return err
}

// onlySending drops the lines by which pion says that it would receive the layers it was asked to send: it repeats the offer's rids
// in its answer, whatever their direction, besides its own (RFC 8853 §5.3 wants the opposite direction only).
func onlySending(answer string) string {
	var out strings.Builder
	for line := range strings.Lines(answer) {
		text := strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(text, "a=simulcast:recv ") || strings.HasPrefix(text, "a=rid:") && strings.HasSuffix(text, " recv") {
			continue
		}
		out.WriteString(line)
	}
	return out.String()
}

// attach gives each m-line in which the server wants to receive the track that belongs there.
func (m *media) attach(o *wire.Offer) error {
	var parsed sdp.SessionDescription
	err := parsed.UnmarshalString(o.SDP)
	if err != nil {
		return fmt.Errorf("read the offer: %w", err)
	}
	for i, section := range o.Sections {
		b := m.bound[section.MID]
		if section.Source == "" {
			if b != nil {
				b.dead = true // pion has stopped what was there: the m-line is inactive
			}
			continue
		}
		t := m.local(section.Source)
		if t == nil { // withdrawn meanwhile; the m-line needs a sender nevertheless, or the next one would get it
			if t, err = newLocalTrack(Publication{Source: section.Source}); err != nil {
				return err
			}
		}
		if section.Track != "" {
			t.id.CompareAndSwap(nil, &section.Track) // the reply to publish, which is right in any case, may be taken later than a demand
		}
		if i >= len(parsed.MediaDescriptions) {
			return fmt.Errorf("the offer has %d m-lines and %d sections", len(parsed.MediaDescriptions), len(o.Sections))
		}
		if m.bound[section.MID], err = b.carry(m, section.MID, t, layers(parsed.MediaDescriptions[i].Attributes)); err != nil {
			return fmt.Errorf("%s: %w", section.Source, err)
		}
	}
	return nil
}

// receive takes a slot in use: pion calls it once for each.
func (m *media) receive(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	s := m.slot(receiver.RTPTransceiver().Mid())
	s.ssrc.Store(uint32(track.SSRC()))
	m.goes(func() { s.read(track) })
	m.goes(func() { // interceptors see RTCP when it is read
		b := make([]byte, receiveMTU)
		for {
			if _, _, err := receiver.Read(b); err != nil {
				return
			}
		}
	})
}

// slot returns the slot of an m-line. The lock is held.
func (m *media) slot(mid string) *slot {
	s := m.slots[mid]
	if s == nil {
		s = &slot{m: m, mid: mid}
		m.slots[mid] = s
	}
	return s
}

// bind follows a slots event.
func (m *media) bind(list []wire.Slot) {
	for _, b := range list {
		m.mu.Lock()
		closed, s := m.closed, m.slot(b.MID)
		m.mu.Unlock()
		if !closed {
			s.bind(b)
		}
	}
}

// WriteRTCP sends RTCP of the caller's own making.
func (c *Client) WriteRTCP(packets ...rtcp.Packet) error {
	if err := c.media.pc.WriteRTCP(packets); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	return nil
}

// Slots returns the SSRC of each m-line in which the server may send, by the m-line's mid. It never changes while the client lives,
// but there may be more of them later.
func (c *Client) Slots() map[string]uint32 {
	c.media.mu.Lock()
	defer c.media.mu.Unlock()
	out := map[string]uint32{}
	for mid, s := range c.media.slots {
		if ssrc := s.ssrc.Load(); ssrc != 0 {
			out[mid] = ssrc
		}
	}
	return out
}
