// Package stun reads and writes STUN Binding messages for ICE connectivity checks.
//
// It owns the wire form of RFC 8489 (header, attributes, short-term integrity,
// fingerprint), the ICE attributes of RFC 8445 §7.1 and the nomination value of
// draft-thatcher-ice-renomination.
//
// It promises that a Message that parsed is well-formed as a whole, that nothing an
// attacker can append behind the integrity attribute is ever handed out, and that parsing,
// checking and appending allocate nothing.
//
// It keeps no transactions, sends nothing and decides nothing: retransmission, roles and
// credentials lookup belong to sfu/transport. Long-term credentials, TURN methods and
// RFC 3489 messages without the magic cookie are out of its scope.
package stun

// HeaderLen is the length of the fixed STUN header (RFC 8489 §5).
const HeaderLen = 20

const (
	magicCookie = 0x2112A442 // RFC 8489 §5
	attrHeader  = 4          // type and length, RFC 8489 §14

	integrityLen       = 20 // HMAC-SHA1, RFC 8489 §14.5
	integritySHA256Min = 16 // truncation allowed down to 16 bytes, RFC 8489 §14.6
	integritySHA256Max = 32
	fingerprintLen     = 4          // RFC 8489 §14.7
	fingerprintXOR     = 0x5354554e // RFC 8489 §14.7
)

// TxID identifies a transaction (RFC 8489 §5). It is 96 bits of randomness, which the
// caller draws.
type TxID [12]byte

// Method is the 12-bit method of a message (RFC 8489 §18.2).
type Method uint16

// MethodBinding is the only method ICE uses.
const MethodBinding Method = 0x001

// Class is the 2-bit class of a message (RFC 8489 §5).
type Class uint8

// Classes.
const (
	ClassRequest    Class = 0
	ClassIndication Class = 1
	ClassSuccess    Class = 2
	ClassError      Class = 3
)

// Type is the 14-bit message type: method and class interleaved (RFC 8489 §5).
type Type uint16

// Types of the Binding method.
const (
	BindingRequest    Type = 0x0001
	BindingIndication Type = 0x0011
	BindingSuccess    Type = 0x0101
	BindingError      Type = 0x0111
)

// NewType combines a method and a class.
func NewType(m Method, c Class) Type {
	return Type(m&0x000f | m&0x0070<<1 | m&0x0f80<<2 | Method(c&1)<<4 | Method(c&2)<<7)
}

// Method takes the method out of the type.
func (t Type) Method() Method {
	return Method(t&0x000f | t&0x00e0>>1 | t&0x3e00>>2)
}

// Class takes the class out of the type.
func (t Type) Class() Class {
	return Class(t>>4&1 | t>>7&2)
}

// AttrType is the type of an attribute. Types below 0x8000 are comprehension-required
// (RFC 8489 §14).
type AttrType uint16

// Attributes this package knows.
const (
	AttrMappedAddress          AttrType = 0x0001 // RFC 8489 §14.1
	AttrUsername               AttrType = 0x0006 // RFC 8489 §14.3
	AttrMessageIntegrity       AttrType = 0x0008 // RFC 8489 §14.5
	AttrErrorCode              AttrType = 0x0009 // RFC 8489 §14.8
	AttrUnknownAttributes      AttrType = 0x000A // RFC 8489 §14.13
	AttrRealm                  AttrType = 0x0014 // RFC 8489 §14.9
	AttrNonce                  AttrType = 0x0015 // RFC 8489 §14.10
	AttrMessageIntegritySHA256 AttrType = 0x001C // RFC 8489 §14.6
	AttrXORMappedAddress       AttrType = 0x0020 // RFC 8489 §14.2
	AttrPriority               AttrType = 0x0024 // RFC 8445 §7.1.1
	AttrUseCandidate           AttrType = 0x0025 // RFC 8445 §7.1.2
	AttrSoftware               AttrType = 0x8022 // RFC 8489 §14.14
	AttrFingerprint            AttrType = 0x8028 // RFC 8489 §14.7
	AttrICEControlled          AttrType = 0x8029 // RFC 8445 §7.1.3
	AttrICEControlling         AttrType = 0x802A // RFC 8445 §7.1.3
	AttrNomination             AttrType = 0xC001 // draft-thatcher-ice-renomination
)

// Error codes that an ICE agent answers with.
const (
	CodeBadRequest       = 400 // RFC 8489 §14.8
	CodeUnauthorized     = 401 // RFC 8489 §14.8
	CodeUnknownAttribute = 420 // RFC 8489 §14.8
	CodeRoleConflict     = 487 // RFC 8445 §7.3.1.1
	CodeServerError      = 500 // RFC 8489 §14.8
)

// required says that a message with this attribute must not be processed by who does not
// understand it.
func (t AttrType) required() bool { return t < 0x8000 }

// known says that this package, or ICE short-term authentication by leaving it alone,
// understands the attribute.
func (t AttrType) known() bool {
	switch t {
	case AttrMappedAddress, AttrUsername, AttrMessageIntegrity, AttrErrorCode,
		AttrUnknownAttributes, AttrRealm, AttrNonce, AttrMessageIntegritySHA256,
		AttrXORMappedAddress, AttrPriority, AttrUseCandidate, AttrSoftware, AttrFingerprint,
		AttrICEControlled, AttrICEControlling, AttrNomination:
		return true
	}
	return false
}
