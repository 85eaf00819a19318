package handshake

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"hash"
	"sync"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/prf"

	"github.com/sotto-edge/sotto/internal/redact"
)

// The record layer of RFC 6347 §4.1, with the AES-GCM of RFC 5288 §3.
const (
	headerLen   = 13
	explicitLen = 8 // the part of the nonce that a record carries
	saltLen     = 4
	tagLen      = 16

	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23

	finished    = 20 // RFC 5246 §7.4
	closeNotify = 0  // RFC 5246 §7.2
	warning     = 1
	fatal       = 2

	sealedEpoch = 1 // there is one handshake, so all that is sealed is in this epoch
	maxSequence = 1<<48 - 1
	windowLen   = 64
)

// parked is an association after its handshake, when all that is still to come is a
// close_notify of either side, and perhaps the client's last flight once more: the
// record layer and nothing else, a few hundred bytes. It acts on what its keys
// authenticate only, and on every record once.
type parked struct {
	redact.Guard
	*recordKeys
	data *dataConn // nil: nobody wants its application data; guarded by the Pool's lock
	live *live     // nil: the Pool's lock guards what follows, and the keys

	next   uint64 // sequence number of the next record sent
	top    uint64 // highest one received
	seen   uint64 // bit n: top-n has been received (RFC 6347 §4.1.2.6)
	flight []byte // the server's last flight, as it was sent
}

// recordKeys are behind a pointer because printing by reflection follows one that it
// finds in a struct no further.
type recordKeys struct {
	keyLen              uint8
	readKey, writeKey   [32]byte
	readSalt, writeSalt [saltLen]byte
}

// live is what an association with application data has besides: a lock of its own, and ciphers for more than a few records, which are
// larger than all else.
type live struct {
	mu             sync.Mutex
	opener, sealer cipher.AEAD
}

// hold takes the lock that the keys need beside the Pool's, if any, and returns what gives it back.
func (p *parked) hold() func() {
	if p.live == nil {
		return func() {}
	}
	p.live.mu.Lock()
	return p.live.mu.Unlock
}

// verdict says what a datagram asks for.
type verdict uint8

const (
	nothing verdict = iota
	again           // the last flight has been lost (RFC 6347 §4.2.4)
	closed          // by close_notify or by a fatal alert
)

// exported are the fields of the binary form of a dtls.State that matter here; gob goes
// by their names.
type exported struct {
	LocalEpoch, RemoteEpoch   uint16
	LocalRandom, RemoteRandom [32]byte
	CipherSuiteID             uint16
	MasterSecret              []byte
	SequenceNumber            uint64
}

var errState = errors.New("handshake: association cannot be parked")

// park takes over from a dtls.Conn that sends and receives nothing any more: two users
// of one key would use nonces twice.
func park(conn *dtls.Conn, flight []byte) (*parked, error) {
	state, ok := conn.ConnectionState()
	if !ok {
		return nil, errState
	}
	b, err := state.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("handshake: park: %w", err)
	}
	defer clear(b)
	var x exported
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&x); err != nil {
		return nil, fmt.Errorf("handshake: park: %w", err)
	}
	defer clear(x.MasterSecret)
	if x.LocalEpoch != sealedEpoch || x.RemoteEpoch != sealedEpoch || len(x.MasterSecret) == 0 || x.SequenceNumber == 0 {
		return nil, errState // the Finished of the server was number 0
	}
	var keyLen int
	var h func() hash.Hash
	switch dtls.CipherSuiteID(x.CipherSuiteID) {
	case dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:
		keyLen, h = 16, sha256.New
	case dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:
		keyLen, h = 32, sha512.New384
	default:
		return nil, errState
	}
	k, err := prf.GenerateEncryptionKeys(x.MasterSecret, x.RemoteRandom[:], x.LocalRandom[:], 0, keyLen, saltLen, h)
	if err != nil {
		return nil, fmt.Errorf("handshake: park: %w", err)
	}
	p := &parked{recordKeys: &recordKeys{keyLen: uint8(keyLen)}, next: x.SequenceNumber, flight: flight}
	for _, c := range []struct{ to, from []byte }{
		{p.readKey[:], k.ClientWriteKey}, {p.writeKey[:], k.ServerWriteKey}, {p.readSalt[:], k.ClientWriteIV}, {p.writeSalt[:], k.ServerWriteIV},
	} {
		copy(c.to, c.from)
		clear(c.from)
	}
	return p, nil
}

// receive looks at the records of one datagram, which it leaves as it is, and counts
// those that are not what they claim to be, or not new. Application data goes to app,
// unless that is nil.
func (p *parked) receive(datagram []byte, app func([]byte)) (v verdict, refused int) {
	defer p.hold()()
	if p.keyLen == 0 {
		return nothing, 0 // wiped
	}
	var open cipher.AEAD
	if p.live != nil {
		open = p.live.opener
	}
	for b := datagram; len(b) > 0; {
		if len(b) < headerLen || len(b)-headerLen < int(binary.BigEndian.Uint16(b[11:])) {
			return v, refused + 1
		}
		n := headerLen + int(binary.BigEndian.Uint16(b[11:]))
		record := b[:n]
		b = b[n:]
		if binary.BigEndian.Uint16(record[3:]) == 0 {
			continue // a flight of the client's once more; what matters of it is its end
		}
		sequence := binary.BigEndian.Uint64(record[3:]) & maxSequence
		if !p.fresh(record, sequence) {
			refused++
			continue
		}
		if open == nil {
			open = newAEAD(p.readKey[:p.keyLen])
		}
		plain, err := open.Open(nil, nonce(&p.readSalt, record[headerLen:]), record[headerLen+explicitLen:], additional(record, n-headerLen-explicitLen-tagLen))
		if err != nil {
			refused++
			continue
		}
		p.mark(sequence)
		switch {
		case len(plain) == 2 && record[0] == typeAlert && (plain[0] == fatal || plain[1] == closeNotify):
			return closed, refused
		case len(plain) > 0 && record[0] == typeHandshake && plain[0] == finished:
			v = again
		case record[0] == typeData && app != nil:
			app(plain)
		}
	}
	return v, refused
}

// fresh says whether a record can be one that has not been received: without this the
// keys would be asked for every copy of an old one.
func (p *parked) fresh(record []byte, sequence uint64) bool {
	switch {
	case record[1] != 0xfe || record[2] != 0xfd, binary.BigEndian.Uint16(record[3:]) != sealedEpoch, len(record) < headerLen+explicitLen+tagLen:
		return false
	case p.seen == 0 || sequence > p.top:
		return true
	}
	return p.top-sequence < windowLen && p.seen&(1<<(p.top-sequence)) == 0
}

func (p *parked) mark(sequence uint64) {
	switch {
	case p.seen == 0:
		p.top, p.seen = sequence, 1
	case sequence > p.top:
		p.seen = p.seen<<(sequence-p.top) | 1
		p.top = sequence
	default:
		p.seen |= 1 << (p.top - sequence)
	}
}

// farewell makes a close_notify.
func (p *parked) farewell() []byte { return p.record(typeAlert, []byte{warning, closeNotify}) }

// record seals a record; nil after wipe.
func (p *parked) record(kind byte, plain []byte) []byte {
	defer p.hold()()
	if p.keyLen == 0 {
		return nil
	}
	b := make([]byte, headerLen+explicitLen, headerLen+explicitLen+len(plain)+tagLen)
	b[0], b[1], b[2] = kind, 0xfe, 0xfd
	binary.BigEndian.PutUint64(b[3:], sealedEpoch<<48|p.next)
	p.next++
	copy(b[headerLen:], b[3:headerLen-2]) // unique as the sequence number is (RFC 9325 §7.2.1)
	aad := additional(b, len(plain))
	binary.BigEndian.PutUint16(b[11:], uint16(explicitLen+len(plain)+tagLen))
	var seal cipher.AEAD
	if p.live != nil {
		seal = p.live.sealer
	} else {
		seal = newAEAD(p.writeKey[:p.keyLen])
	}
	return seal.Seal(b, nonce(&p.writeSalt, b[headerLen:]), plain, aad)
}

// enliven makes p ready for application data. The caller holds the Pool's lock.
func (p *parked) enliven() {
	if p.live == nil {
		p.live = &live{opener: newAEAD(p.readKey[:p.keyLen]), sealer: newAEAD(p.writeKey[:p.keyLen])}
	}
}

// wipe ends the use of the keys.
func (p *parked) wipe() {
	defer p.hold()()
	*p.recordKeys = recordKeys{}
	if p.live != nil {
		p.live.opener, p.live.sealer = nil, nil
	}
}

// newAEAD makes a cipher for one datagram: it is larger than all else that is parked.
func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("handshake: " + err.Error()) // keys have one of two lengths
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("handshake: " + err.Error()) // AES has the block length of GCM
	}
	return aead
}

// nonce is that of RFC 5288 §3.
func nonce(salt *[saltLen]byte, explicit []byte) []byte {
	b := make([]byte, 0, saltLen+explicitLen)
	return append(append(b, salt[:]...), explicit[:explicitLen]...)
}

// additional is what a record's tag covers besides its content (RFC 5246 §6.2.3.3, with
// the epoch and sequence number of RFC 6347 §4.1.2.1).
func additional(record []byte, plainLen int) []byte {
	b := make([]byte, 0, headerLen)
	b = append(b, record[3:11]...)
	b = append(b, record[:3]...)
	return binary.BigEndian.AppendUint16(b, uint16(plainLen))
}
