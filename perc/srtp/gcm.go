package srtp

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// gcm is AEAD_AES_128_GCM and AEAD_AES_256_GCM, RFC 7714.
type gcm struct{ rtp, rtcp *gcmHalf }

// gcmHalf has the session key and salt of SRTP or of SRTCP. The arrays are
// here because what goes through the cipher.AEAD interface would otherwise
// be moved to the heap for every packet.
type gcmHalf struct {
	aead  cipher.AEAD
	salt  [12]byte
	nonce [12]byte
	aad   [rtcpHeaderLen + rtcpWordLen]byte
	tag   [gcmTagLen]byte
}

func newGCM(rtp, rtcp *session, keyLen int) (*gcm, error) {
	r, err := newGCMHalf(rtp, keyLen)
	if err != nil {
		return nil, err
	}
	c, err := newGCMHalf(rtcp, keyLen)
	if err != nil {
		return nil, err
	}
	return &gcm{r, c}, nil
}

func newGCMHalf(s *session, keyLen int) (*gcmHalf, error) {
	block, err := aes.NewCipher(s.key[:keyLen])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	h := &gcmHalf{aead: aead}
	copy(h.salt[:], s.salt[:])
	return h, nil
}

// iv forms the nonce: two zero bytes, SSRC, 48 bits of index, xor the salt.
// For SRTP the index is roll-over counter and sequence number (RFC 7714
// §8.1), for SRTCP 17 zero bits and the SRTCP index (RFC 7714 §9.1).
func (h *gcmHalf) iv(ssrc uint32, index uint64) []byte {
	n := h.nonce[:]
	binary.BigEndian.PutUint32(n, ssrc>>16)
	binary.BigEndian.PutUint64(n[4:], uint64(ssrc)<<48|index)
	for i := range h.nonce {
		h.nonce[i] ^= h.salt[i]
	}
	return n
}

func (g *gcm) sealRTP(dst, payload []byte, ssrc uint32, index uint64) []byte {
	return g.rtp.aead.Seal(dst, g.rtp.iv(ssrc, index), payload, dst)
}

func (g *gcm) openRTP(dst, pkt []byte, headerLen int, ssrc uint32, index uint64) ([]byte, bool) {
	header := pkt[:headerLen]
	out, err := g.rtp.aead.Open(append(dst, header...), g.rtp.iv(ssrc, index), pkt[headerLen:], header)
	return out, err == nil
}

// sealRTCP: RFC 7714 §9.2. The associated data is the clear header and the
// word that ends up behind the tag.
func (g *gcm) sealRTCP(dst, pkt []byte, ssrc, index uint32) []byte {
	h := g.rtcp
	copy(h.aad[:], pkt[:rtcpHeaderLen])
	binary.BigEndian.PutUint32(h.aad[rtcpHeaderLen:], index|encryptedFlag)
	out := append(dst, pkt[:rtcpHeaderLen]...)
	out = h.aead.Seal(out, h.iv(ssrc, uint64(index)), pkt[rtcpHeaderLen:], h.aad[:])
	return append(out, h.aad[rtcpHeaderLen:]...)
}

func (g *gcm) openRTCP(dst, pkt []byte, ssrc, word uint32) ([]byte, bool) {
	h := g.rtcp
	end := len(pkt) - rtcpWordLen
	iv := h.iv(ssrc, uint64(word&^encryptedFlag))
	if word&encryptedFlag == 0 {
		return h.openClearRTCP(dst, pkt, iv)
	}
	copy(h.aad[:], pkt[:rtcpHeaderLen])
	binary.BigEndian.PutUint32(h.aad[rtcpHeaderLen:], word)
	out, err := h.aead.Open(append(dst, pkt[:rtcpHeaderLen]...), iv, pkt[rtcpHeaderLen:end], h.aad[:])
	return out, err == nil
}

// openClearRTCP checks a packet that is authenticated only, RFC 7714 §9.3.
// Its associated data is the packet and the word, and the tag stands between
// the two: the word is moved up for the check, and back.
func (h *gcmHalf) openClearRTCP(dst, pkt, iv []byte) ([]byte, bool) {
	end := len(pkt) - rtcpWordLen - gcmTagLen
	copy(h.tag[:], pkt[end:])
	copy(pkt[end:], pkt[len(pkt)-rtcpWordLen:])
	_, err := h.aead.Open(h.aad[:0], iv, h.tag[:], pkt[:end+rtcpWordLen])
	copy(pkt[end:], h.tag[:])
	if err != nil {
		return nil, false
	}
	return append(dst, pkt[:end]...), true
}

func (g *gcm) wipe() {
	*g.rtp, *g.rtcp = gcmHalf{}, gcmHalf{}
}
