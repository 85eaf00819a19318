package turn

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"

	"github.com/sotto-edge/sotto/internal/stun"
)

// Methods of TURN (RFC 8656 §17, RFC 6062 §6.1).
const (
	methodAllocate         stun.Method = 0x003
	methodRefresh          stun.Method = 0x004
	methodSend             stun.Method = 0x006
	methodData             stun.Method = 0x007
	methodCreatePermission stun.Method = 0x008
	methodChannelBind      stun.Method = 0x009
	methodConnect          stun.Method = 0x00A
	methodConnectionBind   stun.Method = 0x00B
)

// Attributes of TURN (RFC 8656 §18, RFC 6062 §6.2) and of long-term credentials (RFC 8489 §14).
const (
	attrChannelNumber           stun.AttrType = 0x000C
	attrLifetime                stun.AttrType = 0x000D
	attrXORPeerAddress          stun.AttrType = 0x0012
	attrData                    stun.AttrType = 0x0013
	attrXORRelayedAddress       stun.AttrType = 0x0016
	attrRequestedAddressFamily  stun.AttrType = 0x0017
	attrEvenPort                stun.AttrType = 0x0018
	attrRequestedTransport      stun.AttrType = 0x0019
	attrDontFragment            stun.AttrType = 0x001A
	attrPasswordAlgorithm       stun.AttrType = 0x001D
	attrUserHash                stun.AttrType = 0x001E
	attrReservationToken        stun.AttrType = 0x0022
	attrConnectionID            stun.AttrType = 0x002A
	attrAdditionalAddressFamily stun.AttrType = 0x8000
	attrAddressErrorCode        stun.AttrType = 0x8001
	attrPasswordAlgorithms      stun.AttrType = 0x8002
	attrAlternateServer         stun.AttrType = 0x8023 // RFC 8489 §14.15
	attrOrigin                  stun.AttrType = 0x802F // draft-johnston-tram-stun-origin
	attrMobilityTicket          stun.AttrType = 0x8030 // RFC 8016 §3.3
	attrOldAdditionalFamily     stun.AttrType = 0x8032 // ADDITIONAL-ADDRESS-FAMILY of coturn, from a draft of RFC 8656
)

// Error codes (RFC 8489 §14.8, RFC 8656 §19).
const (
	codeTryAlternate        = 300
	codeBadRequest          = 400
	codeUnauthorized        = 401
	codeForbidden           = 403
	codeMobilityForbidden   = 405 // RFC 8016 §3.4
	codeUnknownAttribute    = 420
	codeAllocationMismatch  = 437
	codeStaleNonce          = 438
	codeFamilyNotSupported  = 440
	codeWrongCredentials    = 441
	codeUnsupportedProtocol = 442
	codePeerFamilyMismatch  = 443
	codeQuotaReached        = 486
	codeInsufficient        = 508
)

var reasons = map[int]string{
	codeTryAlternate: "Try Alternate", codeBadRequest: "Bad Request", codeUnauthorized: "Unauthorized", codeForbidden: "Forbidden",
	codeUnknownAttribute: "Unknown Attribute", codeAllocationMismatch: "Allocation Mismatch", codeStaleNonce: "Stale Nonce",
	codeFamilyNotSupported: "Address Family not Supported", codeWrongCredentials: "Wrong Credentials",
	codeUnsupportedProtocol: "Unsupported Transport Protocol", codeQuotaReached: "Allocation Quota Reached",
	codeInsufficient: "Insufficient Capacity", codeMobilityForbidden: "Mobility Forbidden",
	codePeerFamilyMismatch: "Peer Address Family Mismatch",
}

// understood are the comprehension-required attributes that a request may carry.
var understood = map[stun.AttrType]bool{
	stun.AttrMappedAddress: true, stun.AttrUsername: true, stun.AttrMessageIntegrity: true, stun.AttrMessageIntegritySHA256: true,
	stun.AttrRealm: true, stun.AttrNonce: true, attrChannelNumber: true, attrLifetime: true, attrXORPeerAddress: true, attrData: true,
	attrRequestedAddressFamily: true, attrEvenPort: true, attrRequestedTransport: true, attrDontFragment: dontFragments,
	attrPasswordAlgorithm: true, attrUserHash: true, attrReservationToken: true, attrConnectionID: true,
}

// inBindings are those that a Binding request may carry; ICE's are for whoever answers checks.
var inBindings = map[stun.AttrType]bool{
	stun.AttrMappedAddress: true, stun.AttrUsername: true, stun.AttrMessageIntegrity: true, stun.AttrMessageIntegritySHA256: true,
	stun.AttrRealm: true, stun.AttrNonce: true, stun.AttrXORMappedAddress: true, stun.AttrPriority: true, stun.AttrUseCandidate: true,
	attrPasswordAlgorithm: true, attrUserHash: true,
}

// cookie is the magic cookie (RFC 8489 §5).
const cookie = 0x2112A442

// message is one that is being written.
type message []byte

func newMessage(t stun.Type, tx stun.TxID) message {
	m := make(message, stun.HeaderLen, 256)
	binary.BigEndian.PutUint16(m, uint16(t))
	binary.BigEndian.PutUint32(m[4:], cookie)
	copy(m[8:], tx[:])
	return m
}

func (m message) add(t stun.AttrType, value []byte) message {
	m = binary.BigEndian.AppendUint16(m, uint16(t))
	m = binary.BigEndian.AppendUint16(m, uint16(len(value)))
	m = append(m, value...)
	for len(m)%4 != 0 {
		m = append(m, 0)
	}
	binary.BigEndian.PutUint16(m[2:], uint16(len(m)-stun.HeaderLen))
	return m
}

func (m message) errorCode(code int) message {
	return m.add(stun.AttrErrorCode, append([]byte{0, 0, byte(code / 100), byte(code % 100)}, reasons[code]...))
}

// bareError is errorCode without words, for strangers.
func (m message) bareError(code int) message {
	return m.add(stun.AttrErrorCode, []byte{0, 0, byte(code / 100), byte(code % 100)})
}

// fingerprint closes a message (RFC 8489 §14.7).
func (m message) fingerprint() message {
	binary.BigEndian.PutUint16(m[2:], uint16(len(m)+8-stun.HeaderLen))
	sum := crc32.ChecksumIEEE(m) ^ 0x5354554E
	return m.add(stun.AttrFingerprint, binary.BigEndian.AppendUint32(nil, sum))
}

// xorAddress is the value of XOR-MAPPED-ADDRESS and its like (RFC 8489 §14.2).
func xorAddress(a netip.AddrPort, tx stun.TxID) []byte {
	ip := a.Addr().Unmap()
	family := byte(1)
	if ip.Is6() {
		family = 2
	}
	out := binary.BigEndian.AppendUint16([]byte{0, family}, a.Port()^uint16(cookie>>16))
	mask := append(binary.BigEndian.AppendUint32(nil, cookie), tx[:]...)
	for i, b := range ip.AsSlice() {
		out = append(out, b^mask[i])
	}
	return out
}

// plainAddress is the value of ALTERNATE-SERVER (RFC 8489 §14.1).
func plainAddress(a netip.AddrPort) []byte {
	out := []byte{0, 1, byte(a.Port() >> 8), byte(a.Port())}
	if a.Addr().Is6() {
		out[1] = 2
	}
	return append(out, a.Addr().AsSlice()...)
}

// parseXORAddress is the inverse of xorAddress.
func parseXORAddress(v []byte, tx stun.TxID) (netip.AddrPort, bool) {
	if len(v) != 8 && len(v) != 20 || v[1] != 1 && v[1] != 2 || (v[1] == 1) != (len(v) == 8) {
		return netip.AddrPort{}, false
	}
	mask := append(binary.BigEndian.AppendUint32(nil, cookie), tx[:]...)
	ip := make([]byte, len(v)-4)
	for i := range ip {
		ip[i] = v[4+i] ^ mask[i]
	}
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(v[2:])^uint16(cookie>>16)), true
}

// attributes calls f with each attribute of a parsed message up to those that close it.
func attributes(raw []byte, f func(t stun.AttrType, value []byte)) {
	for at := stun.HeaderLen; at+4 <= len(raw); {
		t := stun.AttrType(binary.BigEndian.Uint16(raw[at:]))
		n := int(binary.BigEndian.Uint16(raw[at+2:]))
		if t == stun.AttrMessageIntegrity || t == stun.AttrMessageIntegritySHA256 || t == stun.AttrFingerprint || at+4+n > len(raw) {
			return
		}
		f(t, raw[at+4:at+4+n])
		at += 4 + (n+3)&^3
	}
}

// isChannelData says whether the first bytes are ChannelData's (RFC 8656 §12). Channels above 0x4FFF are of RFC 5766 §11, which
// clients still follow; on a port shared with media they are not told from the rest and never get here.
func isChannelData(b []byte) bool { return len(b) > 0 && b[0]&0xC0 == 0x40 }

// frame returns the length of the frame that a stream begins with: 0 when that is not known yet, negative when there is none. On
// streams ChannelData is padded to four bytes (RFC 8656 §12.5).
func frame(b []byte) int {
	if len(b) < 4 {
		if len(b) > 0 && !isChannelData(b) && b[0] > 3 {
			return -1
		}
		return 0
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case isChannelData(b):
		return 4 + (n+3)&^3
	case b[0] > 3 || n%4 != 0:
		return -1
	case len(b) >= 8 && binary.BigEndian.Uint32(b[4:]) != cookie:
		return -1
	}
	return stun.HeaderLen + n
}
