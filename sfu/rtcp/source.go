package rtcp

import "encoding/binary"

// sdesCNAME is the item type of the canonical name (RFC 3550 §6.5.1).
const sdesCNAME = 1

// AppendSDESCNAME appends a source description with one chunk that binds ssrc to cname (RFC 3550 §6.5). Names longer than
// the 255 bytes an item can hold are cut.
func AppendSDESCNAME(dst []byte, ssrc uint32, cname string) []byte {
	start := len(dst)
	cname = cname[:min(len(cname), 255)]
	dst = appendHeader(dst, TypeSDES, 1)
	dst = binary.BigEndian.AppendUint32(dst, ssrc)
	dst = append(dst, sdesCNAME, uint8(len(cname)))
	dst = append(dst, cname...)
	// At least one null octet ends the items of a chunk, and more of them fill its last word.
	dst = append(dst, 0)
	for (len(dst)-start)%4 != 0 {
		dst = append(dst, 0)
	}
	return setLength(dst, start)
}

// BYE says that sources leave (RFC 3550 §6.6).
type BYE struct {
	sources []byte
	reason  []byte
}

// ParseBYE reads a BYE. The reason is optional and, when its length lies, taken as absent: the sources are what counts.
func ParseBYE(p Packet) (BYE, bool) {
	b, n := p.Body(), 4*p.Count()
	if p.Type() != TypeBYE || len(b) < n {
		return BYE{}, false
	}
	bye := BYE{sources: b[:n]}
	if r := b[n:]; len(r) > 0 && int(r[0]) < len(r) {
		bye.reason = r[1 : 1+int(r[0])]
	}
	return bye, true
}

// SSRCs yields the sources that leave.
func (b BYE) SSRCs(yield func(uint32) bool) {
	for s := b.sources; len(s) >= 4; s = s[4:] {
		if !yield(binary.BigEndian.Uint32(s)) {
			return
		}
	}
}

// Reason is free text of the peer; it must not be trusted to be UTF-8.
func (b BYE) Reason() []byte {
	return b.reason
}

// AppendBYE appends BYE packets for all ssrcs, and one without sources when there are none. A reason longer than 255
// bytes is cut.
func AppendBYE(dst []byte, ssrcs []uint32, reason string) []byte {
	reason = reason[:min(len(reason), 255)]
	for {
		start := len(dst)
		n := min(len(ssrcs), maxCount)
		dst = appendHeader(dst, TypeBYE, uint8(n))
		for _, s := range ssrcs[:n] {
			dst = binary.BigEndian.AppendUint32(dst, s)
		}
		if reason != "" {
			dst = append(dst, uint8(len(reason)))
			dst = append(dst, reason...)
			for (len(dst)-start)%4 != 0 {
				dst = append(dst, 0)
			}
		}
		dst = setLength(dst, start)
		ssrcs = ssrcs[n:]
		if len(ssrcs) == 0 {
			return dst
		}
	}
}
