package udp

// Kind is what the first byte of a datagram says about the rest (RFC 7983 §7).
type Kind uint8

// The kinds that share a media port. ZRTP (16-19) is not spoken here and is unknown.
const (
	KindUnknown     Kind = iota
	KindSTUN             // 0-3
	KindDTLS             // 20-63
	KindChannelData      // 64-79: TURN
	KindRTP              // 128-191: RTP or RTCP
)

func (k Kind) String() string {
	switch k {
	case KindSTUN:
		return "stun"
	case KindDTLS:
		return "dtls"
	case KindChannelData:
		return "channel-data"
	case KindRTP:
		return "rtp"
	}
	return "unknown"
}

// Classify tells the kind of a datagram by its first byte. That is a claim of the
// sender's, not yet a fact.
func Classify(b []byte) Kind {
	if len(b) == 0 {
		return KindUnknown
	}
	switch c := b[0]; {
	case c >= 128 && c <= 191: // the most frequent first
		return KindRTP
	case c <= 3:
		return KindSTUN
	case c >= 20 && c <= 63:
		return KindDTLS
	case c >= 64 && c <= 79:
		return KindChannelData
	}
	return KindUnknown
}
