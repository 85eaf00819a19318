package srtp

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"slices"
)

// cm is AES_CM_128_HMAC_SHA1_80, RFC 3711 §4.1.1, §4.2.1 and §5: encrypt,
// then authenticate.
type cm struct{ rtp, rtcp *cmHalf }

// cmHalf has the session keys of SRTP or of SRTCP.
type cmHalf struct {
	stream *keystream
	mac    hash.Hash
	word   [4]byte
	sum    [sha1.Size]byte
}

func newCM(rtp, rtcp *session) (*cm, error) {
	r, err := newCMHalf(rtp, true)
	if err != nil {
		return nil, err
	}
	c, err := newCMHalf(rtcp, false) // compounds are short and rare
	if err != nil {
		return nil, err
	}
	return &cm{r, c}, nil
}

func newCMHalf(s *session, long bool) (*cmHalf, error) {
	stream, err := newKeystream(s.key[:AES128CMHMACSHA1_80.KeyLen()], &s.salt, long)
	if err != nil {
		return nil, err
	}
	h := &cmHalf{stream: stream, mac: hmac.New(sha1.New, s.auth[:])}
	// The first Reset keeps the hash states behind the padded key; from then
	// on Reset and Sum copy them, without allocating or hashing the key again.
	h.mac.Reset()
	return h, nil
}

// rtpTag authenticates the packet and the roll-over counter behind it, RFC
// 3711 §4.2.
func (h *cmHalf) rtpTag(pkt []byte, roc uint32) []byte {
	binary.BigEndian.PutUint32(h.word[:], roc)
	h.mac.Reset()
	h.mac.Write(pkt)
	h.mac.Write(h.word[:])
	return h.mac.Sum(h.sum[:0])[:cmTagLen]
}

// rtcpTag authenticates the packet, E flag and index included.
func (h *cmHalf) rtcpTag(pkt []byte) []byte {
	h.mac.Reset()
	h.mac.Write(pkt)
	return h.mac.Sum(h.sum[:0])[:cmTagLen]
}

func (c *cm) sealRTP(dst, payload []byte, ssrc uint32, index uint64) []byte {
	h := len(dst)
	end := h + len(payload)
	out := slices.Grow(dst, len(payload)+cmTagLen)[:end+cmTagLen]
	c.rtp.stream.xor(out[h:end], payload, ssrc, index)
	copy(out[end:], c.rtp.rtpTag(out[:end], uint32(index>>16)))
	return out
}

func (c *cm) openRTP(dst, pkt []byte, headerLen int, ssrc uint32, index uint64) ([]byte, bool) {
	end := len(pkt) - cmTagLen
	tag := c.rtp.rtpTag(pkt[:end], uint32(index>>16))
	if subtle.ConstantTimeCompare(tag, pkt[end:]) != 1 {
		return nil, false
	}
	base := len(dst)
	out := slices.Grow(dst, end)[:base+end]
	copy(out[base:], pkt[:headerLen])
	c.rtp.stream.xor(out[base+headerLen:], pkt[headerLen:end], ssrc, index)
	return out, true
}

func (c *cm) sealRTCP(dst, pkt []byte, ssrc, index uint32) []byte {
	base := len(dst)
	end := base + len(pkt)
	out := slices.Grow(dst, len(pkt)+rtcpWordLen+cmTagLen)[:end+rtcpWordLen+cmTagLen]
	copy(out[base:], pkt[:rtcpHeaderLen])
	c.rtcp.stream.xor(out[base+rtcpHeaderLen:end], pkt[rtcpHeaderLen:], ssrc, uint64(index))
	binary.BigEndian.PutUint32(out[end:], index|encryptedFlag)
	copy(out[end+rtcpWordLen:], c.rtcp.rtcpTag(out[base:end+rtcpWordLen]))
	return out
}

func (c *cm) openRTCP(dst, pkt []byte, ssrc, word uint32) ([]byte, bool) {
	signed := len(pkt) - cmTagLen
	end := signed - rtcpWordLen
	if subtle.ConstantTimeCompare(c.rtcp.rtcpTag(pkt[:signed]), pkt[signed:]) != 1 {
		return nil, false
	}
	if word&encryptedFlag == 0 {
		return append(dst, pkt[:end]...), true
	}
	base := len(dst)
	out := slices.Grow(dst, end)[:base+end]
	copy(out[base:], pkt[:rtcpHeaderLen])
	index := uint64(word &^ encryptedFlag)
	c.rtcp.stream.xor(out[base+rtcpHeaderLen:], pkt[rtcpHeaderLen:end], ssrc, index)
	return out, true
}

func (c *cm) wipe() {
	for _, h := range []*cmHalf{c.rtp, c.rtcp} {
		h.stream.wipe()
		*h = cmHalf{}
	}
}
