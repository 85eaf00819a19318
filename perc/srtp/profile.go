package srtp

// Profile is an SRTP protection profile by its DTLS-SRTP number, RFC 5764
// §4.1.2 and RFC 7714 §14.2.
type Profile uint16

// The profiles that Sotto negotiates.
const (
	AES128CMHMACSHA1_80 Profile = 0x0001
	AEADAES128GCM       Profile = 0x0007
	AEADAES256GCM       Profile = 0x0008
)

const (
	cmTagLen  = 10
	gcmTagLen = 16
)

// KeyLen is the length of the master key, and of the session keys; zero for
// an unknown profile.
func (p Profile) KeyLen() int {
	switch p {
	case AES128CMHMACSHA1_80, AEADAES128GCM:
		return 16
	case AEADAES256GCM:
		return 32
	}
	return 0
}

// SaltLen is the length of the master salt, and of the session salts.
func (p Profile) SaltLen() int {
	switch p {
	case AES128CMHMACSHA1_80:
		return 14
	case AEADAES128GCM, AEADAES256GCM:
		return 12
	}
	return 0
}

// RTPOverhead is by how much SealRTP lengthens a packet.
func (p Profile) RTPOverhead() int {
	switch p {
	case AES128CMHMACSHA1_80:
		return cmTagLen
	case AEADAES128GCM, AEADAES256GCM:
		return gcmTagLen
	}
	return 0
}

// RTCPOverhead is by how much SealRTCP lengthens a packet.
func (p Profile) RTCPOverhead() int {
	if o := p.RTPOverhead(); o != 0 {
		return o + rtcpWordLen
	}
	return 0
}

// ExporterLen is the number of bytes a DTLS exporter has to give to
// SplitExported.
func (p Profile) ExporterLen() int { return 2 * (p.KeyLen() + p.SaltLen()) }

func (p Profile) String() string {
	switch p {
	case AES128CMHMACSHA1_80:
		return "SRTP_AES128_CM_HMAC_SHA1_80"
	case AEADAES128GCM:
		return "SRTP_AEAD_AES_128_GCM"
	case AEADAES256GCM:
		return "SRTP_AEAD_AES_256_GCM"
	}
	return "unknown SRTP profile"
}
