package srtp

import (
	"crypto/aes"
	"crypto/cipher"
)

// ExporterLabel is the DTLS exporter label of DTLS-SRTP, RFC 5764 §4.2.
const ExporterLabel = "EXTRACTOR-dtls_srtp"

const (
	maxKeyLen  = 32
	maxSaltLen = 14
	authKeyLen = 20
)

// Keys are the master key and salt of one direction. Copies share the key
// material, so that Zero reaches all of them; a Context made from Keys has
// its own.
type Keys struct {
	guard
	m *master
}

// master is kept behind a pointer everywhere, and has its bytes behind one
// more: fmt calls no methods of unexported fields, and for a verb that does
// not fit a pointer (%s) it shows what the pointer points to, but one level
// of it only.
type master struct {
	profile Profile
	*material
}

type material struct {
	key  [maxKeyLen]byte
	salt [maxSaltLen]byte
}

func (m *master) clone() *master {
	b := *m.material
	return &master{m.profile, &b}
}

func (m *master) wipe() {
	m.profile = 0
	*m.material = material{}
}

// NewKeys copies the master key and salt of profile p.
func NewKeys(p Profile, key, salt []byte) (Keys, error) {
	if p.KeyLen() == 0 {
		return Keys{}, errProfile
	}
	if len(key) != p.KeyLen() || len(salt) != p.SaltLen() {
		return Keys{}, errKeySize
	}
	m := &master{p, &material{}}
	copy(m.key[:], key)
	copy(m.salt[:], salt)
	return Keys{m: m}, nil
}

// SplitExported cuts the keying material of a DTLS exporter into the keys of
// what the DTLS client writes and of what the DTLS server writes, RFC 5764
// §4.2. The material stays the caller's to wipe.
func SplitExported(p Profile, material []byte) (client, server Keys, err error) {
	k, s := p.KeyLen(), p.SaltLen()
	if k == 0 {
		return Keys{}, Keys{}, errProfile
	}
	if len(material) != p.ExporterLen() {
		return Keys{}, Keys{}, errKeySize
	}
	salts := material[2*k:]
	if client, err = NewKeys(p, material[:k], salts[:s]); err != nil {
		return Keys{}, Keys{}, err
	}
	if server, err = NewKeys(p, material[k:2*k], salts[s:]); err != nil {
		return Keys{}, Keys{}, err
	}
	return client, server, nil
}

// Profile returns the profile the keys are for, zero if there are none.
func (k Keys) Profile() Profile {
	if k.m == nil {
		return 0
	}
	return k.m.profile
}

// Zero overwrites the key material of k and all its copies.
func (k Keys) Zero() {
	if k.m != nil {
		k.m.wipe()
	}
}

// session holds the session keys of SRTP or of SRTCP while a transform is
// built from them.
type session struct {
	key  [maxKeyLen]byte
	salt [maxSaltLen]byte
	auth [authKeyLen]byte
}

// Labels of the key derivation, RFC 3711 §4.3.1 and §4.3.2.
const (
	labelRTPKey = iota
	labelRTPAuth
	labelRTPSalt
	labelRTCPKey
	labelRTCPAuth
	labelRTCPSalt
)

// newTransform derives the session keys of m and builds the transform.
func newTransform(m *master) (transform, error) {
	p := m.profile
	block, err := aes.NewCipher(m.key[:p.KeyLen()])
	if err != nil {
		return nil, err
	}
	var rtp, rtcp session
	defer func() { rtp, rtcp = session{}, session{} }()
	derive(rtp.key[:p.KeyLen()], block, &m.salt, labelRTPKey)
	derive(rtp.auth[:], block, &m.salt, labelRTPAuth)
	derive(rtp.salt[:p.SaltLen()], block, &m.salt, labelRTPSalt)
	derive(rtcp.key[:p.KeyLen()], block, &m.salt, labelRTCPKey)
	derive(rtcp.auth[:], block, &m.salt, labelRTCPAuth)
	derive(rtcp.salt[:p.SaltLen()], block, &m.salt, labelRTCPSalt)
	return newSessionTransform(p, &rtp, &rtcp)
}

func newSessionTransform(p Profile, rtp, rtcp *session) (transform, error) {
	if p == AES128CMHMACSHA1_80 {
		return newCM(rtp, rtcp)
	}
	return newGCM(rtp, rtcp, p.KeyLen())
}

// derive fills out with the key stream of the AES-CM PRF, RFC 3711 §4.3.3,
// with AES-256 in it for the 256-bit profile (RFC 7714 §11). The key
// derivation rate is zero, so the label is all that differs; a 96-bit master
// salt stands left in the 112-bit field, with zeros behind it.
func derive(out []byte, block cipher.Block, salt *[maxSaltLen]byte, label byte) {
	var iv [aes.BlockSize]byte
	copy(iv[:], salt[:])
	iv[7] ^= label
	clear(out)
	cipher.NewCTR(block, iv[:]).XORKeyStream(out, out)
}
