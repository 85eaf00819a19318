package rtp

import "encoding/binary"

// Header extensions this appliance negotiates, by the URI of their a=extmap line.
const (
	URIMID                  = "urn:ietf:params:rtp-hdrext:sdes:mid"                                                     // RFC 9143 §15.3
	URIRID                  = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"                                           // RFC 8852 §4.3
	URIRepairedRID          = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"                                  // RFC 8852 §4.4
	URITransportCC          = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"               // its §2
	URIAbsSendTime          = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"                              // AbsSendTime
	URIAudioLevel           = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"                                             // RFC 6464 §4
	URIVideoOrientation     = "urn:3gpp:video-orientation"                                                              // 3GPP TS 26.114 §7.4.5
	URIDependencyDescriptor = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension" // its appendix A
)

const (
	profileOneByte = 0xBEDE // RFC 8285 §4.2
	profileTwoByte = 0x1000 // RFC 8285 §4.3; the low four bits are the application's
	appBits        = 0x000f
	maxOneByteID   = 14 // 15 is reserved, RFC 8285 §4.2
	maxOneByteLen  = 16
	maxTwoByteLen  = 255
	stopID         = 15
	blockHeaderLen = 4
)

// Extension returns the value of the first extension element with that id, in either form of
// RFC 8285; nil when absent. A value of no bytes (two-byte form) is not nil.
func (h *Header) Extension(id uint8) []byte {
	if id == 0 {
		return nil
	}
	for rest := h.ext; ; {
		var got uint8
		var v []byte
		if got, v, rest = nextElement(rest, h.ExtProfile); got == 0 {
			return nil
		}
		if got == id {
			return v
		}
	}
}

// Extensions yields the extension elements in their order: range over h.Extensions. A
// malformed element ends the sequence, as RFC 8285 §4.2 asks for those it names.
func (h *Header) Extensions(yield func(id uint8, v []byte) bool) {
	for rest := h.ext; ; {
		var id uint8
		var v []byte
		if id, v, rest = nextElement(rest, h.ExtProfile); id == 0 || !yield(id, v) {
			return
		}
	}
}

// nextElement takes the first element off b; the id is 0 when there is none.
func nextElement(b []byte, profile uint16) (id uint8, v, rest []byte) {
	switch {
	case profile == profileOneByte:
		return nextOneByte(b)
	case profile&^appBits == profileTwoByte:
		return nextTwoByte(b)
	}
	return 0, nil, nil
}

// nextOneByte is the one-byte form (RFC 8285 §4.2).
func nextOneByte(b []byte) (id uint8, v, rest []byte) {
	for len(b) > 0 {
		if b[0] == 0 { // padding
			b = b[1:]
			continue
		}
		id, n := b[0]>>4, int(b[0]&0x0f)+1
		// Id 15 stops processing, id 0 with a length does too: only padding has that id.
		if id == stopID || id == 0 || len(b) < 1+n {
			return 0, nil, nil
		}
		return id, b[1 : 1+n : 1+n], b[1+n:]
	}
	return 0, nil, nil
}

// nextTwoByte is the two-byte form (RFC 8285 §4.3).
func nextTwoByte(b []byte) (id uint8, v, rest []byte) {
	for len(b) > 0 {
		if b[0] == 0 { // padding
			b = b[1:]
			continue
		}
		if len(b) < 2 {
			return 0, nil, nil
		}
		n := int(b[1])
		if len(b) < 2+n {
			return 0, nil, nil
		}
		return b[0], b[2 : 2+n : 2+n], b[2+n:]
	}
	return 0, nil, nil
}

// ExtensionWriter writes the extension block of a header (RFC 3550 §5.3.1, RFC 8285 §4) behind
// what is already in a slice. It begins in the one-byte form and changes to the two-byte form,
// rewriting what it has, when an element asks for it; peers must have agreed to that with
// a=extmap-allow-mixed. It is a plain value for one function. The block's length field takes
// more than any datagram does, so it is not watched here.
type ExtensionWriter struct {
	buf     []byte
	start   int
	twoByte bool
}

// BeginExtensions begins an extension block at the end of dst, which ends with a header that
// has no extension yet.
func BeginExtensions(dst []byte) ExtensionWriter {
	return ExtensionWriter{
		buf:   append(dst, profileOneByte>>8, profileOneByte&0xff, 0, 0),
		start: len(dst),
	}
}

// Add writes one element. One that neither form can hold (id 0, more than 255 bytes) is left
// out.
func (w *ExtensionWriter) Add(id uint8, v []byte) {
	if id == 0 || len(v) > maxTwoByteLen {
		return
	}
	if !w.twoByte && (id > maxOneByteID || len(v) == 0 || len(v) > maxOneByteLen) {
		w.widen()
	}
	if w.twoByte {
		w.buf = AppendTwoByte(w.buf, id, v)
	} else {
		w.buf = AppendOneByte(w.buf, id, v)
	}
}

// End pads the block to 32 bits, writes its length and returns the whole extended slice.
// A block without elements is legal and stays: the header has already announced it.
func (w *ExtensionWriter) End() []byte {
	for (len(w.buf)-w.start)%4 != 0 {
		w.buf = append(w.buf, 0)
	}
	words := (len(w.buf) - w.start - blockHeaderLen) / 4
	binary.BigEndian.PutUint16(w.buf[w.start+2:], uint16(words))
	return w.buf
}

// widen rewrites the block in the two-byte form. Elements are few and short, so making room
// for one byte at a time is good enough.
func (w *ExtensionWriter) widen() {
	w.twoByte = true
	binary.BigEndian.PutUint16(w.buf[w.start:], profileTwoByte)
	for i := w.start + blockHeaderLen; i < len(w.buf); {
		id, n := w.buf[i]>>4, int(w.buf[i]&0x0f)+1
		w.buf = append(w.buf, 0)
		copy(w.buf[i+2:], w.buf[i+1:])
		w.buf[i], w.buf[i+1] = id, byte(n)
		i += 2 + n
	}
}

// AppendOneByte writes an element in the one-byte form (RFC 8285 §4.2): id 1 to 14, a value of
// 1 to 16 bytes.
func AppendOneByte(dst []byte, id uint8, v []byte) []byte {
	dst = append(dst, id<<4|byte(len(v)-1)&0x0f)
	return append(dst, v...)
}

// AppendTwoByte writes an element in the two-byte form (RFC 8285 §4.3): id 1 to 255, a value of
// up to 255 bytes.
func AppendTwoByte(dst []byte, id uint8, v []byte) []byte {
	dst = append(dst, id, byte(len(v)))
	return append(dst, v...)
}
