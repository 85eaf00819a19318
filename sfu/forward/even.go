package forward

// evenMost is how many bytes a packet is padded by at most.
const evenMost = 4

// even makes the packets of a picture that leave together equally long by a few bytes of RTP padding (RFC 3550 §5.1), all but the last,
// which may be shorter: datagrams to one address that are equally long leave as one (UDP_SEGMENT), for a fraction of the cost.
// Encoders cut a picture into parts that differ by a byte: libwebrtc's later ones are longer, so that each picture would be two runs.
//
// The packets stay as they are now, in the history too. It is not for payload that was sealed with its padding (RFC 8723 §5), where
// the end of the inner packet would be another one.
func even(ps []packet) (padded uint64) {
	for len(ps) > 1 {
		n, most := 1, len(ps[0].payload())
		for n < len(ps) && ps[n].h.Timestamp == ps[0].h.Timestamp {
			most = max(most, len(ps[n].payload()))
			n++
		}
		for i := range ps[:n-1] {
			if lacks := most - len(ps[i].payload()); lacks > 0 && lacks <= evenMost && ps[i].pad(lacks) {
				padded++
			}
		}
		ps = ps[n:]
	}
	return padded
}

// pad adds n bytes of padding; false: it has some already, or there is no room.
func (p *packet) pad(n int) bool {
	size := len(p.buf.Bytes())
	tail := p.buf.Tail()
	if p.h.Padding || size+n > len(tail) {
		return false
	}
	clear(tail[size : size+n])
	tail[size+n-1] = byte(n)
	tail[0] |= 0x20
	p.buf.SetLen(size + n)
	p.h.Padding = true
	return true
}
