package forward

import (
	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/layer"
)

// Extensions are the header extension ids that one session negotiated (RFC 8285); 0 means that it does without.
type Extensions struct {
	MID, RID, RepairedRID, TransportCC, AbsSendTime, AudioLevel, Orientation, Dependency uint8
}

// each calls f for every extension.
func (e *Extensions) each(f func(uri string, id *uint8)) {
	f(rtp.URIMID, &e.MID)
	f(rtp.URIRID, &e.RID)
	f(rtp.URIRepairedRID, &e.RepairedRID)
	f(rtp.URITransportCC, &e.TransportCC)
	f(rtp.URIAbsSendTime, &e.AbsSendTime)
	f(rtp.URIAudioLevel, &e.AudioLevel)
	f(rtp.URIVideoOrientation, &e.Orientation)
	f(rtp.URIDependencyDescriptor, &e.Dependency)
}

// Set notes the id that was negotiated for the extension uri. One that we do not use is passed over.
func (e *Extensions) Set(uri string, id uint8) {
	e.each(func(u string, v *uint8) {
		if u == uri {
			*v = id
		}
	})
}

// packet is a media packet on its way from a layer to the legs: what they need of it is read once.
type packet struct {
	buf         *pktbuf.Buf
	h           rtp.Header
	codec       rtp.Codec
	ext         int64      // extended sequence number of the publisher
	opusAt      uint16     // RED: where in the payload the sound itself begins; 0: it cannot be seen
	opusType    uint8      // … and its payload type
	info        layer.Info // pictures only
	audioLevel  []byte     // values of extensions that are passed on, nil if absent; views into buf
	orientation []byte
	dependency  []byte
}

func newPacket(b *pktbuf.Buf, h *rtp.Header, ext int64, c rtp.Codec, ids *Extensions) packet {
	p := packet{buf: b, h: *h, codec: c, ext: ext}
	for id, v := range h.Extensions {
		switch id {
		case 0:
		case ids.AudioLevel:
			p.audioLevel = oneByte(v)
		case ids.Orientation:
			p.orientation = oneByte(v)
		case ids.Dependency:
			p.dependency = v
		}
	}
	return p
}

// oneByte returns v if it is of the one length that its extension has (RFC 6464 §3, 3GPP TS 26.114 §7.4.5), or else nil: what a
// publisher pads up is not passed on to every receiver.
func oneByte(v []byte) []byte {
	if len(v) != 1 {
		return nil
	}
	return v
}

// payload is everything behind the header, padding included.
func (p *packet) payload() []byte { return p.buf.Bytes()[p.h.HeaderLen:] }

// content is the payload without padding.
func (p *packet) content() []byte {
	c := p.payload()
	if pad := rtp.PaddingLen(p.buf.Bytes(), &p.h); pad > 0 {
		c = c[:len(c)-pad]
	}
	return c
}

// sizes that bound a leg's own header: fixed part, extension block with a mid of 16 bytes, transport-cc, abs-send-time, audio
// level, orientation and a dependency descriptor of 255 bytes.
const maxHeader = 12 + 4 + 18 + 4 + 5 + 4 + 4 + 257 + 3

// appendHeader writes the leg's header for p: the leg's identity and numbering, its own extensions, and those it passes on.
func (l *Leg) appendHeader(dst []byte, p *packet, payloadType uint8, ssrc uint32, seq uint16, ts uint32, stamp layer.Stamp, now int64) []byte {
	ids := &l.peer.ext
	dst = rtp.AppendHeader(dst, stamp.Marker(&p.info), payloadType, seq, ts, ssrc, true)
	if p.h.Padding {
		dst[0] |= 0x20
	}
	dep := p.dependency
	if ids.Dependency == 0 || len(dep) > 255-layer.MaxGrowth {
		dep = nil
	}
	if dep != nil {
		l.peer.router.dependency = stamp.AppendDependency(l.peer.router.dependency[:0], &p.info, dep)
		dep = l.peer.router.dependency
	}
	l.peer.transportSeq++
	tcc := [2]byte{byte(l.peer.transportSeq >> 8), byte(l.peer.transportSeq)}
	ast := rtp.AbsSendTime(now)

	w := rtp.BeginExtensions(dst)
	w.Add(ids.MID, l.mid)
	w.Add(ids.TransportCC, tcc[:])
	w.Add(ids.AbsSendTime, ast[:])
	addPresent(&w, ids.AudioLevel, p.audioLevel)
	addPresent(&w, ids.Orientation, p.orientation)
	addPresent(&w, ids.Dependency, dep)
	return w.End()
}

func addPresent(w *rtp.ExtensionWriter, id uint8, v []byte) {
	if len(v) > 0 {
		w.Add(id, v)
	}
}

// Redundant sound (RFC 2198) is sent to a receiver that reports a loss of redFraction/256 or more, and for redPatience after it did.
// All others are sent the sound itself.
const (
	redFraction = 3
	redPatience = 30 * second
)

// unpack finds the sound itself in a packet of redundant sound, if it can be seen: Opus as the publisher's section has it.
func (p *packet) unpack(up *uplink) {
	for _, m := range up.codecs {
		if m.Codec != rtp.Opus {
			continue
		}
		if at, ok := rtp.PrimaryRED(p.content(), m.PayloadType); ok {
			p.opusAt, p.opusType = uint16(at), m.PayloadType
		}
	}
}

// suit says how p goes to the leg: under which payload type, and what of its payload. Whoever loses nothing needs nothing twice; and
// what is in redundant sound has payload types of its own, so that it is passed on only where they mean the same.
func (l *Leg) suit(p *packet, now int64) (m CodecMap, payload []byte, ok bool) {
	m, ok = l.codec(p.codec)
	payload = p.payload()
	if p.codec != rtp.RED || p.opusAt == 0 {
		return m, payload, ok
	}
	inner, plain := l.codec(rtp.Opus)
	if plain && (!ok || now >= l.lossyUntil || inner.PayloadType != p.opusType) {
		l.peer.router.Counters.Unpacked++
		return inner, payload[p.opusAt:], true
	}
	return m, payload, ok
}
