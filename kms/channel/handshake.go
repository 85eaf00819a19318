package channel

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/sotto-edge/sotto/internal/redact"
)

const secretLen = 32

// Opening is a handshake on the client's side, from its first frame to the answer.
type Opening struct {
	redact.Guard
	o *opening
}

type opening struct {
	ephemeral hpke.PrivateKey
	static    *[secretLen]byte // shared by way of the static key
	frame     []byte
}

// Open begins a handshake with a KMS and returns the frame to send. The keys in it are fresh each time.
func Open(p *Peer, suite Suite) (*Opening, []byte, error) {
	if !p.Has(suite) {
		return nil, nil, fmt.Errorf("%w: %s", ErrSuite, suite)
	}
	ephemeral, err := suite.kem().GenerateKey()
	if err != nil {
		return nil, nil, fmt.Errorf("channel: open: %w", err)
	}
	f := openFrame{version: Version, suite: suite, identity: p.hash}
	enc, sender, err := hpke.NewSender(p.keys[suite], hpke.HKDFSHA256(), hpke.AES256GCM(), openInfo(&f))
	if err != nil {
		return nil, nil, fmt.Errorf("channel: open: %w", err)
	}
	f.enc = enc
	if f.sealed, err = sender.Seal(nil, ephemeral.PublicKey().Bytes()); err != nil {
		return nil, nil, fmt.Errorf("channel: open: %w", err)
	}
	static, err := sender.Export(label+"static", secretLen)
	if err != nil {
		return nil, nil, fmt.Errorf("channel: open: %w", err)
	}
	o := &opening{ephemeral, (*[secretLen]byte)(static), f.append(nil)}
	return &Opening{o: o}, append([]byte(nil), o.frame...), nil
}

// Finish reads the answer of the KMS and returns the session. An answer that is none of the KMS's fails, and the Opening with it.
func (o *Opening) Finish(frame []byte) (*Session, error) {
	if o.o == nil {
		return nil, ErrSpent
	}
	own := o.o
	o.o = nil
	defer clear(own.static[:])
	f, err := parseAcceptFrame(frame)
	if err != nil {
		return nil, err
	}
	recipient, err := hpke.NewRecipient(f.enc, own.ephemeral, hpke.HKDFSHA256(), hpke.ExportOnly(), acceptInfo(own.frame, f.session))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	fresh, err := recipient.Export(label+"ephemeral", secretLen)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	defer clear(fresh)
	s, confirm, err := derive(f.session, own.static[:], fresh, own.frame, f.unconfirmed(nil), toKMS)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(confirm, f.confirm[:]) {
		s.Wipe()
		return nil, fmt.Errorf("%w: the answer is not of the KMS", ErrHandshake)
	}
	return s, nil
}

// Wipe gives the handshake up.
func (o *Opening) Wipe() {
	if o.o != nil {
		clear(o.o.static[:])
		o.o = nil
	}
}

// Accept reads the first frame of a handshake with one of the identities, and returns the session with the frame to answer. ErrIdentity
// says that it was meant for another one. That the client holds what it claims to is not known before it has sent a text.
func Accept(identities []*Identity, frame []byte) (*Session, Suite, []byte, error) {
	f, err := parseOpenFrame(frame)
	if err != nil {
		return nil, 0, nil, err
	}
	if f.version != Version {
		return nil, 0, nil, fmt.Errorf("%w: version %d", ErrSuite, f.version)
	}
	var private hpke.PrivateKey
	known := false
	for _, i := range identities {
		if i.hash == f.identity {
			private, known = i.keys.private[f.suite], true
		}
	}
	switch {
	case !known:
		return nil, 0, nil, ErrIdentity
	case private == nil:
		return nil, 0, nil, fmt.Errorf("%w: %s", ErrSuite, f.suite)
	}
	recipient, err := hpke.NewRecipient(f.enc, private, hpke.HKDFSHA256(), hpke.AES256GCM(), openInfo(&f))
	if err != nil {
		return nil, 0, nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	public, err := recipient.Open(nil, f.sealed)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	static, err := recipient.Export(label+"static", secretLen)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	defer clear(static)
	ephemeral, err := f.suite.kem().NewPublicKey(public)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	var answer acceptFrame
	_, _ = rand.Read(answer.session[:]) // never fails; crypto/rand ends the program instead
	enc, sender, err := hpke.NewSender(ephemeral, hpke.HKDFSHA256(), hpke.ExportOnly(), acceptInfo(frame, answer.session))
	if err != nil {
		return nil, 0, nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	answer.enc = enc
	fresh, err := sender.Export(label+"ephemeral", secretLen)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	defer clear(fresh)
	unconfirmed := answer.unconfirmed(nil)
	s, confirm, err := derive(answer.session, static, fresh, frame, unconfirmed, toClient)
	if err != nil {
		return nil, 0, nil, err
	}
	return s, f.suite, append(unconfirmed, confirm...), nil
}

// openInfo binds what is sealed to the static key to version, suite and the statement that the client believed.
func openInfo(f *openFrame) []byte { return append([]byte(label+"open\x00"), f.header()...) }

// acceptInfo binds the second encapsulation to the first frame, all of it, and to the session.
func acceptInfo(open []byte, session ID) []byte {
	sum := sha256.Sum256(open)
	b := append([]byte(label+"accept\x00"), sum[:]...)
	return append(b, session[:]...)
}

// transcript is the hash of both frames, up to the proof in the second.
func transcript(open, unconfirmed []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte(label + "transcript\x00"))
	for _, part := range [][]byte{open, unconfirmed} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	return [32]byte(h.Sum(nil))
}

// derive makes the session of one side from both secrets: HKDF with the one as salt and the other as input (RFC 5869 §2.2), so that
// either alone says nothing, and with the transcript in every output. It returns the proof of the KMS as well.
func derive(id ID, static, fresh, open, unconfirmed []byte, out direction) (*Session, []byte, error) {
	prk, err := hkdf.Extract(sha256.New, fresh, static)
	if err != nil {
		return nil, nil, fmt.Errorf("channel: derive: %w", err)
	}
	defer clear(prk)
	sum := transcript(open, unconfirmed)
	expand := func(what string, n int) (b []byte) {
		if err == nil {
			b, err = hkdf.Expand(sha256.New, prk, label+what+"\x00"+string(sum[:]), n)
		}
		return b
	}
	confirm := expand("confirm", secretLen)
	s := &Session{id: id, binding: new([bindingLen]byte)}
	copy(s.binding[:], expand("binding", len(s.binding)))
	for _, d := range []direction{toKMS, toClient} {
		key, iv := expand(d.String()+" key", keyLen), expand(d.String()+" iv", ivLen)
		if err != nil {
			break
		}
		var h *half
		if h, err = newHalf(id, d, key, iv); err != nil {
			break
		}
		clear(key)
		clear(iv)
		if d == out {
			s.out = h
		} else {
			s.in = h
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("channel: derive: %w", err)
	}
	return s, confirm, nil
}
