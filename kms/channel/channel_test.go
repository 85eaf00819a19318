package channel

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/token"
)

const domain = "example.org"

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// authority is a certification authority of a test.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func ecKey(t testing.TB, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{key: ecKey(t, elliptic.P256())}
	a.cert = a.make(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, a.key.Public())
	return a
}

func (a *authority) make(t testing.TB, template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(7)
	template.NotBefore, template.NotAfter = noon.Add(-time.Hour), noon.Add(100*24*time.Hour)
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (a *authority) certify(t testing.TB, public crypto.PublicKey, names ...string) [][]byte {
	t.Helper()
	return [][]byte{a.make(t, &x509.Certificate{DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, public).Raw}
}

func (a *authority) trust() Trust {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return Trust{Domain: domain, Roots: pool}
}

func (a *authority) config(t testing.TB) IdentityConfig {
	t.Helper()
	key := ecKey(t, elliptic.P256())
	return IdentityConfig{
		Domain: domain, Seed: token.NewSeed(), Chain: a.certify(t, key.Public(), domain), Signer: key,
		From: noon, Until: noon.Add(30 * 24 * time.Hour),
	}
}

func identity(t testing.TB, cfg IdentityConfig) *Identity {
	t.Helper()
	i, err := NewIdentity(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// pair is an identity and a client that has verified it.
func pair(t testing.TB) (*Identity, *Peer) {
	t.Helper()
	a := newAuthority(t)
	i := identity(t, a.config(t))
	p, err := a.trust().Verify(i.Frame(), noon)
	if err != nil {
		t.Fatal(err)
	}
	return i, p
}

// handshake opens a channel.
func handshake(t testing.TB, i *Identity, p *Peer, suite Suite) (client, kms *Session) {
	t.Helper()
	o, open, err := Open(p, suite)
	if err != nil {
		t.Fatal(err)
	}
	kms, spoken, answer, err := Accept([]*Identity{i}, open)
	if err != nil {
		t.Fatal(err)
	}
	if spoken != suite {
		t.Errorf("suite %s, want %s", spoken, suite)
	}
	if client, err = o.Finish(answer); err != nil {
		t.Fatal(err)
	}
	return client, kms
}

func eachSuite(t *testing.T, f func(t *testing.T, suite Suite)) {
	for _, suite := range Suites() {
		t.Run(suite.String(), func(t *testing.T) { f(t, suite) })
	}
}

func seal(t testing.TB, s *Session, text string) []byte {
	t.Helper()
	frame, err := s.Seal(nil, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func opens(t testing.TB, s *Session, frame []byte, want string) {
	t.Helper()
	got, err := s.Open(nil, frame)
	if err != nil || string(got) != want {
		t.Fatalf("opened %q, error %v; want %q", got, err, want)
	}
}

func refuses(t testing.TB, s *Session, frame []byte, want error) {
	t.Helper()
	if got, err := s.Open([]byte("before"), frame); !errors.Is(err, want) || string(got) != "before" {
		t.Fatalf("%v and %q, want %v", err, got, want)
	}
}

// TestChannel: two sides that have never met exchange texts after one round trip (K3, K5).
func TestChannel(t *testing.T) {
	i, p := pair(t)
	eachSuite(t, func(t *testing.T, suite Suite) {
		client, kms := handshake(t, i, p, suite)
		if client.ID() != kms.ID() || !bytes.Equal(client.Binding(), kms.Binding()) || bytes.Equal(client.Binding(), make([]byte, 32)) {
			t.Error("the sides do not agree on the session")
		}
		for n := range 3 {
			up, down := fmt.Sprintf("request %d", n), fmt.Sprintf("response %d", n)
			opens(t, kms, seal(t, client, up), up)
			opens(t, client, seal(t, kms, down), down)
		}
		opens(t, kms, seal(t, client, ""), "")
		other, _ := handshake(t, i, p, suite)
		if other.ID() == client.ID() || bytes.Equal(other.Binding(), client.Binding()) {
			t.Error("two sessions are one")
		}
		refuses(t, kms, seal(t, other, "request"), ErrSealed)
	})
}

// The key of a certificate may be of any usual kind.
func TestCertificateKeys(t *testing.T) {
	a := newAuthority(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{ecKey(t, elliptic.P256()), ecKey(t, elliptic.P384()), ed, r} {
		cfg := a.config(t)
		cfg.Signer, cfg.Chain = key, a.certify(t, key.Public(), "mail.example.org", domain)
		i := identity(t, cfg)
		p, err := a.trust().Verify(i.Frame(), noon)
		if err != nil {
			t.Errorf("%T: %v", key, err)
			continue
		}
		if p.Domain() != domain || !p.Until().Equal(cfg.Until) || !p.Has(Hybrid) || !p.Has(P256) || p.Has(3) {
			t.Errorf("%T: peer %v", key, p)
		}
	}
	cfg := a.config(t)
	key := ecKey(t, elliptic.P521())
	cfg.Signer, cfg.Chain = key, a.certify(t, key.Public(), domain)
	if _, err := NewIdentity(cfg); err == nil {
		t.Error("a key was taken that clients do not check")
	}
}

// resign puts another statement, or another signature of it, into an identity.
func resign(t *testing.T, cfg IdentityConfig, change func(*statement), signer crypto.Signer) []byte {
	t.Helper()
	f, err := parseIdentityFrame(identity(t, cfg).Frame())
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseStatement(f.statement)
	if err != nil {
		t.Fatal(err)
	}
	change(&s)
	f.statement = s.append(nil)
	if f.signature, err = sign(signer, signed(f.statement)); err != nil {
		t.Fatal(err)
	}
	return f.append(nil)
}

// TestWrongDomain: a certificate for another name, or by somebody who is not trusted, stops the client before it has said a word
// (K4).
func TestWrongDomain(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	trust := a.trust()
	key := ecKey(t, elliptic.P256())
	with := func(chain [][]byte, domain string) IdentityConfig {
		return IdentityConfig{Domain: domain, Seed: token.NewSeed(), Chain: chain, Signer: key, From: noon, Until: noon.Add(time.Hour)}
	}
	good := with(a.certify(t, key.Public(), domain), domain)
	both := with(a.certify(t, key.Public(), domain, "example.net"), "example.net")
	keep := func(*statement) {}
	for name, c := range map[string]struct {
		frame []byte
		at    time.Time
		want  error
	}{
		"another domain":             {identity(t, with(a.certify(t, key.Public(), "example.net"), "example.net")).Frame(), noon, ErrDomain},
		"a subdomain":                {identity(t, with(a.certify(t, key.Public(), "kms.example.org"), "kms.example.org")).Frame(), noon, ErrDomain},
		"a statement of another":     {identity(t, both).Frame(), noon, ErrDomain},
		"a stranger's certificate":   {identity(t, with(stranger.certify(t, key.Public(), domain), domain)).Frame(), noon, ErrUntrusted},
		"signed with another key":    {resign(t, good, keep, ecKey(t, elliptic.P256())), noon, ErrUntrusted},
		"signed by another kind":     {resign(t, good, keep, ecKey(t, elliptic.P384())), noon, ErrUntrusted},
		"an old statement":           {identity(t, good).Frame(), noon.Add(time.Hour), ErrStale},
		"a statement of the future":  {identity(t, good).Frame(), noon.Add(-time.Second), ErrStale},
		"a statement for ever":       {resign(t, good, func(s *statement) { s.until = s.from + int64(MaxValidity/time.Second) + 1 }, key), noon, ErrStale},
		"an old certificate":         {identity(t, good).Frame(), noon.Add(101 * 24 * time.Hour), ErrUntrusted},
		"a key that is none":         {resign(t, good, func(s *statement) { s.keys[1].public = make([]byte, 65) }, key), noon, ErrMalformed},
		"a key twice":                {resign(t, good, func(s *statement) { s.keys = append(s.keys, s.keys[0]) }, key), noon, ErrMalformed},
		"a certificate that is none": {(&identityFrame{[]byte("x"), [][]byte{{1}}, []byte("x")}).append(nil), noon, ErrMalformed},
	} {
		if p, err := trust.Verify(c.frame, c.at); p != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	wild := a.certify(t, key.Public(), "*.example.org")
	if _, err := (Trust{Domain: "mail.example.org", Roots: trust.Roots}).Certified(wild, noon); !errors.Is(err, ErrDomain) {
		t.Errorf("a wildcard stands for a domain: %v", err)
	}
	if _, err := trust.Verify(identity(t, good).Frame(), noon); err != nil {
		t.Errorf("the right one: %v", err)
	}
	for name, change := range map[string]func(*IdentityConfig){
		"a domain not certified": func(c *IdentityConfig) { c.Domain = "example.net" },
		"another's key":          func(c *IdentityConfig) { c.Signer = ecKey(t, elliptic.P256()) },
		"too long":               func(c *IdentityConfig) { c.Until = c.From.Add(MaxValidity + time.Second) },
		"no certificate":         func(c *IdentityConfig) { c.Chain = nil },
		"an unknown suite":       func(c *IdentityConfig) { c.Suites = []Suite{9} },
	} {
		cfg := good
		change(&cfg)
		if _, err := NewIdentity(cfg); err == nil {
			t.Errorf("an identity with %s was made", name)
		}
	}
}

// A statement or certificate in which any bit was changed is not believed.
func TestBentIdentity(t *testing.T) {
	a := newAuthority(t)
	frame := identity(t, a.config(t)).Frame()
	for at := 0; at < len(frame); at += 5 {
		bent := slices.Clone(frame)
		bent[at] ^= 0x10
		if _, err := a.trust().Verify(bent, noon); err == nil {
			t.Fatalf("believed with byte %d of %d bent", at, len(frame))
		}
	}
	for n := 0; n < len(frame); n += 7 {
		if _, err := a.trust().Verify(frame[:n], noon); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
	}
}

// Suites are chosen from what the statement lists, so a relay cannot make a client take a weaker one.
func TestSuites(t *testing.T) {
	a := newAuthority(t)
	cfg := a.config(t)
	cfg.Suites = []Suite{Hybrid}
	i := identity(t, cfg)
	p, err := a.trust().Verify(i.Frame(), noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(p, P256); !errors.Is(err, ErrSuite) {
		t.Errorf("opened by a suite that the KMS does not have: %v", err)
	}
	_, both := pair(t)
	both.hash = p.hash
	_, open, err := Open(both, P256)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := Accept([]*Identity{i}, open); !errors.Is(err, ErrSuite) {
		t.Errorf("accepted by a suite that is turned off: %v", err)
	}
	_, open, err = Open(p, Hybrid)
	if err != nil {
		t.Fatal(err)
	}
	open[1]++
	if _, _, _, err := Accept([]*Identity{i}, open); !errors.Is(err, ErrSuite) {
		t.Errorf("another version: %v", err)
	}
	open[1]--
	if _, _, _, err := Accept([]*Identity{identity(t, a.config(t))}, open); !errors.Is(err, ErrIdentity) {
		t.Errorf("meant for another identity: %v", err)
	}
	if _, _, _, err := Accept([]*Identity{identity(t, a.config(t)), i}, open); err != nil {
		t.Errorf("meant for the older of two identities: %v", err)
	}
}

// TestBentHandshake changes either frame of the handshake on the way: no session that both sides believe in comes of it.
func TestBentHandshake(t *testing.T) {
	i, p := pair(t)
	eachSuite(t, func(t *testing.T, suite Suite) {
		step := 1
		if suite == Hybrid {
			step = 41
		}
		_, first, err := Open(p, suite)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(first); at += step {
			bent := slices.Clone(first)
			bent[at] ^= 0x04
			if _, _, _, err := Accept([]*Identity{i}, bent); err == nil {
				t.Fatalf("accepted with byte %d of %d bent", at, len(first))
			}
		}
		for n := 0; n < len(first); n += step {
			if _, _, _, err := Accept([]*Identity{i}, first[:n]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("cut after %d bytes: %v", n, err)
			}
		}
		_, _, answer, err := Accept([]*Identity{i}, first)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(answer); at += step {
			o, open, err := Open(p, suite)
			if err != nil {
				t.Fatal(err)
			}
			_, _, answer, err := Accept([]*Identity{i}, open)
			if err != nil {
				t.Fatal(err)
			}
			answer[at] ^= 0x04
			if _, err := o.Finish(answer); err == nil {
				t.Fatalf("finished with byte %d of %d bent", at, len(answer))
			}
			answer[at] ^= 0x04
			if _, err := o.Finish(answer); !errors.Is(err, ErrSpent) {
				t.Fatalf("a handshake was tried twice: %v", err)
			}
		}
	})
}

// TestImpostor: who does not hold the static key answers with a key of its own, or with an answer to somebody else, in vain (K5).
func TestImpostor(t *testing.T) {
	i, p := pair(t)
	impostor, _ := pair(t)
	impostor.hash = i.hash
	eachSuite(t, func(t *testing.T, suite Suite) {
		_, open, err := Open(p, suite)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := Accept([]*Identity{impostor}, open); !errors.Is(err, ErrHandshake) {
			t.Errorf("an impostor reads the first frame: %v", err)
		}
		mine, _, err := Open(p, suite)
		if err != nil {
			t.Fatal(err)
		}
		_, _, answer, err := Accept([]*Identity{i}, open)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mine.Finish(answer); !errors.Is(err, ErrHandshake) {
			t.Errorf("the answer to another client was taken: %v", err)
		}
	})
}

// TestFrames: what a relay may do to frames. Replayed, reordered, reflected, cut, bent or moved into another session, they do not
// open, and what comes after is not harmed (K3).
func TestFrames(t *testing.T) {
	i, p := pair(t)
	client, kms := handshake(t, i, p, P256)
	other, otherKMS := handshake(t, i, p, P256)
	one, two, three := seal(t, client, "one"), seal(t, client, "two"), seal(t, client, "three")
	refuses(t, kms, two, ErrMissing)     // reordered
	refuses(t, client, one, ErrSealed)   // reflected
	refuses(t, otherKMS, one, ErrSealed) // moved
	for n := range one {
		if _, err := kms.Open(nil, one[:n]); err == nil {
			t.Fatalf("opened, cut after %d bytes", n)
		}
	}
	refuses(t, kms, append(slices.Clone(one), 0), ErrSealed)
	for at := range one {
		bent := slices.Clone(one)
		bent[at] ^= 1
		if _, err := kms.Open(nil, bent); err == nil {
			t.Fatalf("opened with byte %d bent", at)
		}
	}
	opens(t, kms, one, "one")
	refuses(t, kms, one, ErrReplayed)
	refuses(t, kms, three, ErrMissing) // two was dropped
	opens(t, kms, two, "two")
	// The counter is not believed, it is part of what is authenticated.
	renumbered := slices.Clone(two)
	binary.BigEndian.PutUint64(renumbered[17:], 2)
	refuses(t, kms, renumbered, ErrSealed)
	// A frame of the KMS to another client, moved here.
	moved := seal(t, otherKMS, "secret")
	renamed := slices.Clone(moved)
	id := client.ID()
	copy(renamed[1:], id[:])
	refuses(t, client, moved, ErrSealed)
	refuses(t, client, renamed, ErrSealed)
	opens(t, other, moved, "secret")
	opens(t, kms, three, "three")
	opens(t, client, seal(t, kms, "answer"), "answer")

	if _, err := client.Seal(nil, make([]byte, MaxFrame)); !errors.Is(err, ErrMalformed) {
		t.Errorf("sealed a text above the limit: %v", err)
	}
	client.out.next, kms.in.next = maxFrames-1, maxFrames-1
	last := seal(t, client, "last")
	if _, err := client.Seal(nil, nil); !errors.Is(err, ErrSpent) {
		t.Errorf("sealed beyond the last counter: %v", err)
	}
	opens(t, kms, last, "last")
	refuses(t, kms, last, ErrSpent)
	kms.Wipe()
	kms.Wipe()
	if _, err := kms.Seal(nil, nil); !errors.Is(err, ErrSpent) {
		t.Errorf("sealed after the end: %v", err)
	}
	refuses(t, kms, last, ErrSpent)
	if !bytes.Equal(kms.Binding(), make([]byte, 32)) {
		t.Error("the binding is still there after the end")
	}
}

func TestResetFrame(t *testing.T) {
	id, why, err := ParseReset(Reset(ID{1, 2}, ReasonBusy))
	if err != nil || id != (ID{1, 2}) || why != ReasonBusy {
		t.Errorf("read %v %v %v", id, why, err)
	}
	frame := Reset(ID{1}, ReasonUnknown)
	for n := range frame {
		if _, _, err := ParseReset(frame[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
	for why := ReasonUnknown; why <= ReasonBusy; why++ {
		if why.String() == Reason(0).String() {
			t.Errorf("reason %d has no words", why)
		}
	}
	for _, frame := range [][]byte{nil, {}, {0}, {7}, make([]byte, MaxFrame+1)} {
		if KindOf(frame) != 0 {
			t.Errorf("%d bytes are a frame", len(frame))
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	i, p := pair(t)
	o, open, err := Open(p, P256)
	if err != nil {
		t.Fatal(err)
	}
	kms, _, _, err := Accept([]*Identity{i}, open)
	if err != nil {
		t.Fatal(err)
	}
	static, err := i.keys.private[P256].Bytes()
	if err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{static, o.o.static[:], kms.out.secrets.iv[:], kms.binding[:]}
	type holder struct {
		I *Identity
		O *Opening
		S *Session
	}
	type inner struct { // fmt calls no methods of fields that are not exported
		i *Identity
		o *Opening
		s *Session
	}
	var outs []string
	for _, v := range []any{i, *i, o, *o, kms, *kms, holder{i, o, kms}, inner{i, o, kms}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			outs = append(outs, strings.ToLower(fmt.Sprintf(verb, v)))
		}
	}
	for _, v := range []any{i, o, kms, holder{i, o, kms}} {
		if text, err := json.Marshal(v); err == nil {
			t.Errorf("%T was marshalled: %s", v, text)
		}
	}
	for _, secret := range secrets {
		dec := strings.Trim(fmt.Sprint(secret), "[]")
		for _, out := range outs {
			for _, form := range []string{string(secret), fmt.Sprintf("%x", secret), dec, strings.ReplaceAll(dec, " ", ", ")} {
				if strings.Contains(out, form) {
					t.Errorf("printed: %.200s", out)
				}
			}
		}
	}
}

// What was exported and derived on the way is overwritten, not left.
func TestWiped(t *testing.T) {
	i, p := pair(t)
	o, open, err := Open(p, P256)
	if err != nil {
		t.Fatal(err)
	}
	static := o.o.static
	kms, _, answer, err := Accept([]*Identity{i}, open)
	if err != nil {
		t.Fatal(err)
	}
	client, err := o.Finish(answer)
	if err != nil {
		t.Fatal(err)
	}
	iv := client.out.secrets.iv
	client.Wipe()
	kms.Wipe()
	if *static != [secretLen]byte{} || *iv != [ivLen]byte{} {
		t.Error("secrets are left")
	}
	o, _, err = Open(p, P256)
	if err != nil {
		t.Fatal(err)
	}
	static = o.o.static
	o.Wipe()
	o.Wipe()
	if *static != [secretLen]byte{} {
		t.Error("the secret of a handshake that was given up is left")
	}
}

func BenchmarkHandshake(b *testing.B) {
	i, p := pair(b)
	for _, suite := range Suites() {
		b.Run(suite.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				handshake(b, i, p, suite)
			}
		})
	}
}

func BenchmarkFrame(b *testing.B) {
	i, p := pair(b)
	client, kms := handshake(b, i, p, P256)
	text, frame, out := make([]byte, 512), make([]byte, 0, 1024), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		f, err := client.Seal(frame, text)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := kms.Open(out, f); err != nil {
			b.Fatal(err)
		}
	}
}
