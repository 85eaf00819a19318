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
	wanted atomic.Int32 // layers that are of use to anybody; 0: all

	keys     chan struct{}
	feedback *queue[rtcp.Packet]
	bound    atomic.Pointer[binding] // nil before the first answer

	mu        sync.Mutex // of WriteFrame
	packetize rtp.Packetizer
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

// Wanted returns how many layers, from the lowest, anybody can make use of now: those above need not be encoded, and are not sent.
// Events delivers a *wire.Demand when it changes; who sends a layer again begins with a key frame.
func (t *LocalTrack) Wanted() int {
	if n := int(t.wanted.Load()); n > 0 {
		return min(n, t.Layers())
	}
	return t.Layers()
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
// name it, and the m-line, in their extensions (RFC 8852 §3.1, RFC 9143 §9.2). What nobody wants (Wanted) is dropped without an error,
// and the layer's numbers go on without a gap when it is wanted again.
func (t *LocalTrack) WriteLayer(layer int, p *rtp.Packet) error {
	b := t.bound.Load()
	if b == nil {
		return nil
	}
	if layer < 0 || layer >= len(b.layers) {
		return fmt.Errorf("client: %s has %d layers", t.source, len(b.layers))
	}
	if n := int(t.wanted.Load()); n > 0 && layer >= n {
		b.dropped[layer].Add(1)
		return nil
	}
	own := *p
	own.SequenceNumber -= uint16(b.dropped[layer].Load())
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

// end lets go of the m-line, which the server offers inactive next.
func (t *LocalTrack) end() {
	if b := t.bound.Swap(nil); b != nil {
		b.owner.CompareAndSwap(t, nil)
	}
	t.feedback.close()
}

// binding is what sends in an m-line, for one track after the other.
type binding struct {
	mid    string
	sender *webrtc.RTPSender
	ids    map[string]uint8 // header extensions by URI
	layers []*webrtc.TrackLocalStaticRTP
	// dropped counts the packets of each layer that were not sent because nobody wanted them.
	dropped []atomic.Uint32
	rids    []string
	codec   webrtc.PayloadType
	owner   atomic.Pointer[LocalTrack]
	dead    bool // the m-line was inactive meanwhile
}

// carry makes the m-line that of t, with the layers that the server asks for. The binding before it may be nil.
func (b *binding) carry(m *media, mid string, t *LocalTrack, rids []string) (*binding, error) {
	if b != nil && b.owner.Load() == t {
		return b, nil
	}
	i := slices.IndexFunc(m.pc.GetTransceivers(), func(x *webrtc.RTPTransceiver) bool { return x.Mid() == mid })
	if i < 0 {
		return nil, fmt.Errorf("no transceiver for section %s", mid)
	}
	x := m.pc.GetTransceivers()[i]
	if err := x.SetCodecPreferences(t.codec.preference()); err != nil {
		return nil, err
	}
	if b != nil && !b.dead && b.codec == t.codec.PayloadType && slices.Equal(b.rids, rids) {
		b.take(t) // one ended and another began between two offers
		return b, nil
	}
	if b != nil && !b.dead {
		if len(b.layers) > 1 || len(rids) > 1 {
			return nil, errors.New("layers cannot change while an m-line is in use")
		}
		l, err := layer(t, "")
		if err != nil {
			return nil, err
		}
		if err := b.sender.ReplaceTrack(l); err != nil {
			return nil, err
		}
		b.layers, b.codec = []*webrtc.TrackLocalStaticRTP{l}, t.codec.PayloadType
		b.take(t)
		return b, nil
	}
	if b != nil {
		// It takes the dead sender away and then complains about the direction of the transceiver.
		_ = m.pc.RemoveTrack(b.sender)
	}
	return newBinding(m, x, t, rids)
}

func layer(t *LocalTrack, rid string) (*webrtc.TrackLocalStaticRTP, error) {
	// One id for all layers: they are encodings of one track.
	return webrtc.NewTrackLocalStaticRTP(t.codec.RTPCodecCapability, string(t.source), "sotto", webrtc.WithRTPStreamID(rid))
}

func newBinding(m *media, x *webrtc.RTPTransceiver, t *LocalTrack, rids []string) (*binding, error) {
	b := &binding{mid: x.Mid(), ids: map[string]uint8{}, rids: rids, codec: t.codec.PayloadType}
	if len(rids) == 0 {
		rids = []string{""}
	}
	for _, rid := range rids {
		l, err := layer(t, rid)
		if err != nil {
			return nil, err
		}
		b.layers = append(b.layers, l)
	}
	b.dropped = make([]atomic.Uint32, len(b.layers))
	// AddTrack takes the first m-line that has no sender yet, and they are gone through in order.
	var err error
	if b.sender, err = m.pc.AddTrack(b.layers[0]); err != nil {
		return nil, err
	}
	if x.Sender() != b.sender {
		return nil, fmt.Errorf("section %s did not get the sender that was made for it", b.mid)
	}
	for _, l := range b.layers[1:] {
		if err := b.sender.AddEncoding(l); err != nil {
			return nil, err
		}
	}
	for _, e := range b.sender.GetParameters().HeaderExtensions {
		b.ids[e.URI] = uint8(e.ID)
	}
	b.take(t)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range b.layers {
		m.goes(func() { b.listen(l.RID()) })
	}
	return b, nil
}

func (b *binding) take(t *LocalTrack) {
	b.owner.Store(t)
	t.bound.Store(b)
}

// listen reads the RTCP about one layer, for whoever owns it.
func (b *binding) listen(rid string) {
	for {
		var packets []rtcp.Packet
		var err error
		if rid == "" {
			packets, _, err = b.sender.ReadRTCP()
		} else {
			packets, _, err = b.sender.ReadSimulcastRTCP(rid)
		}
		if err != nil {
			return
		}
		if t := b.owner.Load(); t != nil {
			t.heard(packets)
		}
	}
}

func (t *LocalTrack) heard(packets []rtcp.Packet) {
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

// layers returns the rids that an m-line of the offer asks for, in its order (RFC 8853 §5.1).
func layers(attributes []sdp.Attribute) []string {
	for _, a := range attributes {
		if list, ok := strings.CutPrefix(a.Value, "recv "); ok && a.Key == "simulcast" {
			return strings.Split(list, ";")
		}
	}
	return nil
}
