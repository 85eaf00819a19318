// Package srtp protects and opens RTP and RTCP packets: SRTP and SRTCP by
// RFC 3711 (AES_CM_128_HMAC_SHA1_80) and RFC 7714 (AEAD_AES_128_GCM,
// AEAD_AES_256_GCM), under the profile numbers of DTLS-SRTP (RFC 5764).
//
// It owns the key derivation, the cryptographic context of one direction of
// one session, and that context's binary form. A Context is plain state (the
// master key, and a 48-bit index and a window of 512 indices per SSRC) and
// is used by one goroutine: the shard that owns the session.
//
// It promises:
//
//   - No SRTP or SRTCP index is used twice under one key. The sender's
//     indices are remembered in a window, what has left the window counts as
//     used, and a lease (Stream.SetLimit) bounds what may be used before
//     another node that holds a copy of the state has agreed.
//   - A Context restored elsewhere with the right skip continues beyond
//     everything the first one may have sent, with its roll-over counter, and
//     a restored receiver goes on refusing what it has already seen.
//   - No allocation per packet, if dst has room for the result.
//   - Nothing that holds key material can be printed or marshalled except by
//     AppendState, whose output is as secret as the keys and is sealed by the
//     caller.
//
// It does not parse RTP beyond sequence number and SSRC, does not negotiate,
// and knows no MKI, no re-keying by key derivation rate (RFC 3711 §4.3.1; it
// is zero in DTLS-SRTP), no encrypted header extensions (RFC 6904, RFC 9335).
package srtp

import (
	"errors"

	"github.com/sotto-edge/sotto/internal/redact"
)

// What callers tell apart. Everything else that can go wrong is misuse and
// has an error nobody needs to match.
var (
	ErrAuth           = errors.New("srtp: authentication failed")
	ErrReplay         = errors.New("srtp: replayed or too old")
	ErrShort          = errors.New("srtp: packet too short")
	ErrTooManyStreams = errors.New("srtp: too many streams")
	ErrIndexReused    = errors.New("srtp: index already used")
	ErrLease          = errors.New("srtp: index above the granted limit")
	ErrExhausted      = errors.New("srtp: key exhausted")
	ErrState          = errors.New("srtp: malformed state")
	ErrStateVersion   = errors.New("srtp: unknown version of state")
)

var (
	errProfile = errors.New("srtp: unknown profile")
	errKeySize = errors.New("srtp: wrong length of master key or salt")
	errNoKeys  = errors.New("srtp: empty or zeroised keys")
	errRole    = errors.New("srtp: operation of the other role")
	errStream  = errors.New("srtp: stream of another context")
	errHeader  = errors.New("srtp: header does not carry the index and SSRC of the stream")
	errLong    = errors.New("srtp: packet too long")
)

const (
	maxSendStreams    = 512
	maxReceiveStreams = 64

	// RFC 3711 §9.2: at most 2^48 SRTP and 2^31 SRTCP packets under a key.
	maxIndex     = 1<<48 - 1
	maxRTCPIndex = 1<<31 - 1

	// One AES-CM key stream segment is 2^16 blocks (RFC 3711 §4.1.1); no
	// datagram comes near it, and a longer packet would run into the next.
	maxPacket = 1 << 16

	rtpHeaderLen  = 12
	rtcpHeaderLen = 8 // the part that stays clear, RFC 3711 §3.4
	rtcpWordLen   = 4 // E flag and SRTCP index
	encryptedFlag = 1 << 31
)

// guard makes the types that embed it unprintable and unmarshalable.
type guard = redact.Guard

// Role says which way the packets of a Context go.
type Role uint8

// The two roles.
const (
	Sender Role = iota + 1
	Receiver
)

// transform is the packet transform of a profile under the session keys of
// one direction. It knows neither windows nor streams.
//
// The seal methods append to dst and cannot fail. The open methods report
// whether the packet is authentic; if not, the contents of a packet opened
// in place are lost.
type transform interface {
	// sealRTP appends the protected payload to dst, which holds the header.
	sealRTP(dst, payload []byte, ssrc uint32, index uint64) []byte
	openRTP(dst, pkt []byte, headerLen int, ssrc uint32, index uint64) ([]byte, bool)
	sealRTCP(dst, pkt []byte, ssrc, index uint32) []byte
	openRTCP(dst, pkt []byte, ssrc, word uint32) ([]byte, bool)
	// wipe overwrites what key material the transform itself holds.
	wipe()
}
