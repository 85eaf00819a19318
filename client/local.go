package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	irtp "github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// frameMTU bounds the RTP packets that WriteFrame makes: room for the extensions and SRTP below 1200 bytes.
const frameMTU = 1150

// queuedFeedback is how much RTCP about one track waits for a reader.
const queuedFeedback = 256

// LocalTrack is one publication of the client.
type LocalTrack struct {
	source wire.Source
	codec  codec
	id     atomic.Pointer[string]

	keys     chan struct{}
	feedback *queue[rtcp.Packet]
	bound    atomic.Pointer[binding] // nil before the first answer

	mu        sync.Mutex // of WriteFrame
	packetize rtp.Packetizer
}

// binding is a track in its m-line.
type binding struct {
	mid    string
	sender *webrtc.RTPSender
	ids    map[string]uint8 // header extensions by URI
	layers []*webrtc.TrackLocalStaticRTP
}

func newLocalTrack(p Publication) (*LocalTrack, error) {
	name := strings.ToLower(p.Codec)
	sound := p.Source == wire.Microphone || p.Source == wire.ScreenAudio
	if name == "" {
		name = "vp8"
		if sound {
			name = "opus"
		}
	}
	k, ok := known[name]
	if !ok || sound != (k.kind() == webrtc.RTPCodecTypeAudio) {
		return nil, fmt.Errorf("client: codec %q is not for %s", p.Codec, p.Source)
	}
	return &LocalTrack{source: p.Source, codec: k, keys: make(chan struct{}, 1), feedback: newQueue[rtcp.Packet](queuedFeedback)}, nil
}

// ID returns the track's id, empty until the server has given it one.
func (t *LocalTrack) ID() string {
	if id := t.id.Load(); id != nil {
		return *id
	}
	return ""
}

// Source returns what the track shows.
func (t *LocalTrack) Source() wire.Source { return t.source }

// KeyFrames delivers the receivers' wish for a key frame. Several become one.
func (t *LocalTrack) KeyFrames() <-chan struct{} { return t.keys }

// Feedback delivers the RTCP packets that name the track's streams: what receivers miss, reports, transport-wide feedback. It is
// closed when the track ends. The interceptors have acted on them already.
func (t *LocalTrack) Feedback() <-chan rtcp.Packet { return t.feedback.ch }

// Layers returns how many layers there are: 0 before the track is negotiated, 1 without simulcast.
func (t *LocalTrack) Layers() int {
	if b := t.bound.Load(); b != nil {
		return len(b.layers)
	}
	return 0
}

// SSRCs returns the streams of the track, those of retransmission left out, lowest resolution first.
func (t *LocalTrack) SSRCs() []uint32 {
	b := t.bound.Load()
	if b == nil {
		return nil
	}
	var out []uint32
	for _, e := range b.sender.GetParameters().Encodings {
		out = append(out, uint32(e.SSRC))
	}
	return out
}

// ExtensionID returns the id of a header extension in the track's packets, 0 if it is not negotiated.
func (t *LocalTrack) ExtensionID(uri string) uint8 {
	if b := t.bound.Load(); b != nil {
		return b.ids[uri]
	}
	return 0
}

// WriteRTP sends one packet. Its sequence number, timestamp, marker, extensions and payload are the caller's; SSRC and payload type
// are set here. Until the media is connected packets are dropped without an error.
func (t *LocalTrack) WriteRTP(p *rtp.Packet) error { return t.WriteLayer(0, p) }

// WriteLayer sends one packet of a simulcast layer, of which 0 is the lowest. Each layer has its own sequence numbers; its packets
// name it, and the m-line, in their extensions (RFC 8852 §3.1, RFC 9143 §9.2).
func (t *LocalTrack) WriteLayer(layer int, p *rtp.Packet) error {
	b := t.bound.Load()
	if b == nil {
		return nil
	}
	if layer < 0 || layer >= len(b.layers) {
		return fmt.Errorf("client: %s has %d layers", t.source, len(b.layers))
	}
	own := *p
	own.Extensions = slices.Clone(p.Extensions) // more are added on the way
	if rid := b.layers[layer].RID(); rid != "" {
		err := errors.Join(
			own.SetExtension(b.ids[irtp.URIMID], []byte(b.mid)),
			own.SetExtension(b.ids[irtp.URIRID], []byte(rid)),
		)
		if err != nil {
			return fmt.Errorf("client: %s: %w", t.source, err)
		}
	}
	if err := b.layers[layer].WriteRTP(&own); err != nil {
		return fmt.Errorf("client: %s: %w", t.source, err)
	}
	return nil
}

// WriteFrame sends one encoded frame, cut into packets, that lasts so long.
func (t *LocalTrack) WriteFrame(frame []byte, lasts time.Duration) error {
	t.mu.Lock()
	if t.packetize == nil {
		t.packetize = rtp.NewPacketizer(frameMTU, uint8(t.codec.PayloadType), 0, t.codec.payload(), rtp.NewRandomSequencer(), t.codec.ClockRate)
	}
	packets := t.packetize.Packetize(frame, uint32(lasts.Seconds()*float64(t.codec.ClockRate)+0.5))
	t.mu.Unlock()
	for _, p := range packets {
		if err := t.WriteRTP(p); err != nil {
			return err
		}
	}
	return nil
}

func (t *LocalTrack) attachedTo(mid string) bool {
	b := t.bound.Load()
	return b != nil && b.mid == mid
}

// attach makes the track that of the transceiver's m-line. rids are the layers the server asks for.
func (t *LocalTrack) attach(m *media, x *webrtc.RTPTransceiver, rids []string) error {
	if err := x.SetCodecPreferences(t.codec.preference()); err != nil {
		return err
	}
	b := &binding{mid: x.Mid(), ids: map[string]uint8{}}
	if len(rids) == 0 {
		rids = []string{""}
	}
	for _, rid := range rids {
		// One id for all layers: they are encodings of one track.
		l, err := webrtc.NewTrackLocalStaticRTP(t.codec.RTPCodecCapability, string(t.source), "sotto", webrtc.WithRTPStreamID(rid))
		if err != nil {
			return err
		}
		b.layers = append(b.layers, l)
	}
	var err error
	if b.sender, err = m.api.NewRTPSender(b.layers[0], m.pc.SCTP().Transport()); err != nil {
		return err
	}
	if err := x.SetSender(b.sender, b.layers[0]); err != nil {
		return err
	}
	for _, l := range b.layers[1:] {
		if err := b.sender.AddEncoding(l); err != nil {
			return err
		}
	}
	for _, e := range b.sender.GetParameters().HeaderExtensions {
		b.ids[e.URI] = uint8(e.ID)
	}
	t.bound.Store(b)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range b.layers {
		m.goes(func() { t.listen(b.sender, l.RID()) })
	}
	return nil
}

// listen reads the RTCP about one layer.
func (t *LocalTrack) listen(s *webrtc.RTPSender, rid string) {
	for {
		var packets []rtcp.Packet
		var err error
		if rid == "" {
			packets, _, err = s.ReadRTCP()
		} else {
			packets, _, err = s.ReadSimulcastRTCP(rid)
		}
		if err != nil {
			return
		}
		for _, p := range packets {
			switch p.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				select {
				case t.keys <- struct{}{}:
				default:
				}
			}
			t.feedback.put(p)
		}
	}
}

// end stops the track.
func (t *LocalTrack) end() error {
	var err error
	if b := t.bound.Swap(nil); b != nil {
		err = b.sender.Stop()
	}
	t.feedback.close()
	if err != nil {
		return fmt.Errorf("client: stop %s: %w", t.source, err)
	}
	return nil
}

// layers returns the rids that an m-line of the offer asks for, in its order (RFC 8853 §5.1).
func layers(attributes []sdp.Attribute) []string {
	for _, a := range attributes {
		if list, ok := strings.CutPrefix(a.Value, "recv "); ok && a.Key == "simulcast" {
			return strings.Split(list, ";")
		}
	}
	return nil
}
