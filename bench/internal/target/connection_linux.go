package target

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"github.com/sotto-edge/sotto/bench/internal/sink"
	irtp "github.com/sotto-edge/sotto/internal/rtp"
)

// Payload types that the peers are offered.
const (
	soundType   = 111
	pictureType = 96
	receiveMTU  = 2000
)

// connection is one PeerConnection over a sink, as a peer wants it: one for what is published, another for what is received.
type connection struct {
	pc   *webrtc.PeerConnection
	mux  ice.UDPMux
	sink *sink.Sink
	work sync.WaitGroup

	once      sync.Once
	connected chan struct{}
	failed    chan struct{}
}

func connect(s SeatConfig) (_ *connection, err error) {
	c := &connection{connected: make(chan struct{}), failed: make(chan struct{})}
	if c.sink, err = s.Open(); err != nil {
		return nil, err
	}
	c.sink.Watch(s.Turns)
	engine, registry := &webrtc.MediaEngine{}, &interceptor.Registry{}
	var settings webrtc.SettingEngine
	err = errors.Join(register(engine), intercept(registry), settings.SetAnsweringDTLSRole(webrtc.DTLSRoleClient))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bench: %w", err), c.sink.Close())
	}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetHostAcceptanceMinWait(0)
	settings.SetPrflxAcceptanceMinWait(0)
	settings.SetSRTPProtectionProfiles(s.Profile)
	settings.SetReceiveMTU(receiveMTU)
	c.mux = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: c.sink})
	settings.SetICEUDPMux(c.mux)
	api := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(settings), webrtc.WithInterceptorRegistry(registry))
	if c.pc, err = api.NewPeerConnection(webrtc.Configuration{}); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: %w", err), c.mux.Close(), c.sink.Close())
	}
	c.pc.OnConnectionStateChange(func(st webrtc.PeerConnectionState) {
		switch st {
		case webrtc.PeerConnectionStateConnected:
			c.once.Do(func() { close(c.connected) })
		case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			c.once.Do(func() { close(c.failed) })
		}
	})
	c.pc.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		c.work.Go(func() { read(t, s.Opened) })
		c.work.Go(func() { // SDES, sender reports
			b := make([]byte, receiveMTU)
			for {
				if _, _, err := r.Read(b); err != nil {
					return
				}
			}
		})
	})
	return c, nil
}

// register offers what a browser would, as far as the servers are used for: Opus, VP8, transport-wide feedback.
func register(e *webrtc.MediaEngine) error {
	transportCC := webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBTransportCC}
	feedback := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}, transportCC}
	extension := webrtc.RTPHeaderExtensionCapability{URI: irtp.URITransportCC}
	return errors.Join(
		e.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: soundType, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1",
			RTCPFeedback: []webrtc.RTCPFeedback{transportCC},
		}}, webrtc.RTPCodecTypeAudio),
		e.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: pictureType, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: feedback,
		}}, webrtc.RTPCodecTypeVideo),
		e.RegisterHeaderExtension(extension, webrtc.RTPCodecTypeAudio),
		e.RegisterHeaderExtension(extension, webrtc.RTPCodecTypeVideo),
	)
}

// intercept is what the Go SDK has for its senders: numbers for transport-wide feedback, retransmission, reports. What is received is
// reported from the sink's account.
func intercept(r *interceptor.Registry) error {
	numbers, err := twcc.NewHeaderExtensionInterceptor()
	if err != nil {
		return err
	}
	responder, err := nack.NewResponderInterceptor()
	if err != nil {
		return err
	}
	reports, err := report.NewSenderInterceptor()
	if err != nil {
		return err
	}
	r.Add(numbers)
	r.Add(responder)
	r.Add(reports)
	return nil
}

func read(t *webrtc.TrackRemote, opened func(Packet)) {
	for {
		b := make([]byte, receiveMTU)
		n, attributes, err := t.Read(b)
		if err != nil {
			return
		}
		p := Packet{Packet: &rtp.Packet{}, Arrived: time.Now(), Repaired: attributes.Get(webrtc.AttributeRtxSsrc) != nil}
		if p.Unmarshal(b[:n:n]) == nil && opened != nil {
			opened(p)
		}
	}
}

// await waits until the connection stands.
func (c *connection) await(ctx context.Context) error {
	select {
	case <-c.connected:
		return nil
	case <-c.failed:
		return errors.New("bench: no way to the server was found, or DTLS failed")
	case <-ctx.Done():
		return fmt.Errorf("bench: connect: %w", ctx.Err())
	}
}

func (c *connection) close() error {
	err := errors.Join(c.pc.GracefulClose(), c.mux.Close(), c.sink.Close())
	c.work.Wait()
	return err
}

func (c *connection) writeRTCP(b []byte) error {
	p := rtcp.RawPacket(b)
	return c.pc.WriteRTCP([]rtcp.Packet{&p})
}

// local sets the local description and returns it with its candidate.
func (c *connection) local(d webrtc.SessionDescription) (string, error) {
	gathered := webrtc.GatheringCompletePromise(c.pc)
	if err := c.pc.SetLocalDescription(d); err != nil {
		return "", fmt.Errorf("bench: %w", err)
	}
	<-gathered
	return c.pc.LocalDescription().SDP, nil
}

// offer is for what is published.
func (c *connection) offer() (string, error) {
	d, err := c.pc.CreateOffer(nil)
	if err != nil {
		return "", fmt.Errorf("bench: %w", err)
	}
	return c.local(d)
}

// answered takes the answer to it.
func (c *connection) answered(answer string) error {
	if err := c.point(answer); err != nil {
		return err
	}
	err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer})
	if err != nil {
		return fmt.Errorf("bench: the server's answer: %w", err)
	}
	return nil
}

// answer is for what is received.
func (c *connection) answer(offer string) (string, error) {
	if err := c.point(offer); err != nil {
		return "", err
	}
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", fmt.Errorf("bench: the server's offer: %w", err)
	}
	d, err := c.pc.CreateAnswer(nil)
	if err != nil {
		return "", fmt.Errorf("bench: %w", err)
	}
	return c.local(d)
}

// point connects the socket to where a description of the server says that it is.
func (c *connection) point(text string) error {
	at, layout, err := understand(text)
	if err != nil {
		return err
	}
	return c.sink.Connect(at, layout)
}

// understand reads a server's description: its first candidate over UDP and IPv4, and what its packets' numbers mean.
func understand(text string) (netip.AddrPort, sink.Layout, error) {
	var d sdp.SessionDescription
	var at netip.AddrPort
	l := sink.Layout{Sound: soundType}
	if err := d.UnmarshalString(text); err != nil {
		return at, l, fmt.Errorf("bench: the server's description: %w", err)
	}
	attributes := d.Attributes
	for _, m := range d.MediaDescriptions {
		attributes = append(attributes, m.Attributes...)
	}
	for _, a := range attributes {
		f := strings.Fields(a.Value)
		switch {
		case a.Key == "candidate" && len(f) >= 8 && strings.EqualFold(f[2], "udp") && f[7] == "host" && !at.IsValid():
			addr, err := netip.ParseAddr(f[4]) // RFC 8839 §5.1
			port, err2 := strconv.ParseUint(f[5], 10, 16)
			if err == nil && err2 == nil && addr.Is4() {
				at = netip.AddrPortFrom(addr, uint16(port))
			}
		case a.Key == "extmap" && len(f) >= 2 && f[1] == irtp.URITransportCC:
			id, _, _ := strings.Cut(f[0], "/")
			if n, err := strconv.ParseUint(id, 10, 8); err == nil {
				l.Transport = uint8(n)
			}
		}
	}
	if !at.IsValid() {
		return at, l, errors.New("bench: the server's description has no candidate over UDP")
	}
	return at, l, nil
}

// outlet is one track that is published to a peer.
type outlet struct {
	track *webrtc.TrackLocalStaticRTP
	keys  chan struct{}
}

// publish adds a track.
func (c *connection) publish(id string, codec webrtc.RTPCodecCapability) (*outlet, error) {
	t, err := webrtc.NewTrackLocalStaticRTP(codec, codec.MimeType[:5]+id, id)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	x, err := c.pc.AddTransceiverFromTrack(t, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	o := &outlet{track: t, keys: make(chan struct{}, 1)}
	c.work.Go(func() { o.listen(x.Sender()) })
	return o, nil
}

func (o *outlet) listen(s *webrtc.RTPSender) {
	for {
		packets, _, err := s.ReadRTCP()
		if err != nil {
			return
		}
		for _, p := range packets {
			switch p.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				select {
				case o.keys <- struct{}{}:
				default:
				}
			}
		}
	}
}

// WriteLayer implements Outlet; the peers are sent one layer.
func (o *outlet) WriteLayer(_ int, p *rtp.Packet) error {
	own := *p // the packet gets more extensions on its way
	if err := o.track.WriteRTP(&own); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// KeyFrames implements Outlet.
func (o *outlet) KeyFrames() <-chan struct{} { return o.keys }
