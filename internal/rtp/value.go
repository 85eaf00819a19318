package rtp

// AbsSendTimeLen is the length of the abs-send-time value.
const AbsSendTimeLen = 3

// ParseAudioLevel reads the client-to-mixer audio level (RFC 6464 §3): level is in -dBov, 0 the
// loudest and 127 silence; voice says that the sender thinks it is speech.
func ParseAudioLevel(v []byte) (level uint8, voice, ok bool) {
	if len(v) != 1 {
		return 0, false, false
	}
	return v[0] & 0x7f, v[0]&0x80 != 0, true
}

// AbsSendTime makes the abs-send-time value from a clock in nanoseconds: seconds modulo 64 in
// 6.18 fixed point (http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time). Receivers only
// take differences, so any steady clock will do; the Unix and NTP epochs lie a multiple of 64 s
// apart and give the same value.
func AbsSendTime(ns int64) [AbsSendTimeLen]byte {
	const wrap = 64_000_000_000
	ns %= wrap
	if ns < 0 {
		ns += wrap
	}
	t := uint64(ns) << 18 / 1_000_000_000
	return [AbsSendTimeLen]byte{byte(t >> 16), byte(t >> 8), byte(t)}
}

// ParseAbsSendTime reads an abs-send-time value in units of 2^-18 s.
func ParseAbsSendTime(v []byte) (t uint32, ok bool) {
	if len(v) != AbsSendTimeLen {
		return 0, false
	}
	return uint32(v[0])<<16 | uint32(v[1])<<8 | uint32(v[2]), true
}
