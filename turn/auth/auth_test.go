package auth_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/turn/auth"
)

const realm = "example.org"

var now = time.Unix(1_800_000_000, 0)

// matrix is the user name of the vectors, マトリックス.
const matrix = "\u30DE\u30C8\u30EA\u30C3\u30AF\u30B9"

// RFC 5769 §2.4 and RFC 8489 §B.1.
var (
	vectorSHA1 = unhex(`000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b90000
		0015001c662f2f3439396b3935346436 4f4c33346f4c394653547679363473410014000b6578616d706c652e6f726700
		00080014f67024656dd64a3e02b8e0712e85c9a28ca89666`)
	// With the corrections of erratum 6268.
	vectorSHA256 = unhex(`000100902112a44278ad3433c6ad72c029da412e001e00204a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704
		001500296f624d61744a6f733241414143662f2f3439396b39353464364f4c33346f4c394653547679363473410000000014000b6578616d706c652e6f726700
		001d000400020000001c0020b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65`)
	vectorHash = unhex(`4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704`)
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

func parse(t *testing.T, b []byte) *stun.Message {
	t.Helper()
	m := new(stun.Message)
	if err := m.Parse(b); err != nil {
		t.Fatal(err)
	}
	return m
}

func authority(t *testing.T, cfg auth.Config) *auth.Authority {
	t.Helper()
	if cfg.Realm == "" {
		cfg.Realm = realm
	}
	a, err := auth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestVectorLongTerm checks the key and the integrity against RFC 5769 §2.4.
func TestVectorLongTerm(t *testing.T) {
	a := authority(t, auth.Config{Users: []auth.User{{Name: matrix, Password: auth.NewSecret("TheMatrIX")}}})
	m := parse(t, vectorSHA1)
	name, _ := m.Username()
	c, err := a.Candidates(nil, string(name), auth.MD5, now, false)
	if err != nil || len(c) != 1 {
		t.Fatal(c, err)
	}
	if i, ok := c[0].Key.Opens(m, vectorSHA1); !ok || i != auth.SHA1Integrity {
		t.Error("the vector's integrity does not verify")
	}
	for at := range vectorSHA1 {
		bad := append([]byte(nil), vectorSHA1...)
		bad[at] ^= 1
		var m stun.Message
		if m.Parse(bad) != nil {
			continue
		}
		if _, ok := c[0].Key.Opens(&m, bad); ok {
			t.Errorf("byte %d may be changed", at)
		}
	}
}

// TestVectorSHA256 checks MESSAGE-INTEGRITY-SHA256, the key by SHA-256 and the user's hash against RFC 8489 §B.1.
func TestVectorSHA256(t *testing.T) {
	a := authority(t, auth.Config{Users: []auth.User{{Name: matrix, Password: auth.NewSecret("TheMatrIX")}}})
	m := parse(t, vectorSHA256)
	hash, _ := m.Attr(0x001E)
	name, ok := a.ByHash([32]byte(hash))
	if !ok {
		t.Fatal("the hash is nobody's")
	}
	c, err := a.Candidates(nil, name, auth.SHA256, now, false)
	if err != nil || len(c) != 1 {
		t.Fatal(c, err)
	}
	if i, ok := c[0].Key.Opens(m, vectorSHA256); !ok || i != auth.SHA256Integrity {
		t.Error("the vector's integrity does not verify")
	}
	if _, ok := auth.NewKey(name, realm, "TheMatrIX", auth.MD5).Opens(m, vectorSHA256); ok {
		t.Error("the key by MD5 opens it, too")
	}
	// What this package seals is the vector, byte by byte.
	const sealed = 4 + 32
	if got := c[0].Key.Seal(append([]byte(nil), vectorSHA256[:len(vectorSHA256)-sealed]...), auth.SHA256Integrity); !cmp.Equal(got, vectorSHA256) {
		t.Errorf("sealed as %x", got)
	}
}

// TestTextHasOneForm: whether an accent is typed in one piece or two, and which kind of space, the key is that of RFC 8265 §4.2.
func TestTextHasOneForm(t *testing.T) {
	const composed, apart = "caf\u00E9", "cafe\u0301"
	want := auth.NewKey(composed, composed, composed+" 1", auth.SHA256)
	a := authority(t, auth.Config{Realm: apart, Users: []auth.User{{Name: apart, Password: auth.NewSecret(apart + "\u3000" + "1")}}})
	c, err := a.Candidates(nil, composed, auth.SHA256, now, false)
	if err != nil || a.Realm() != composed {
		t.Fatal(err, a.Realm())
	}
	request := append([]byte(nil), vectorSHA1[:stun.HeaderLen]...)
	sealed := want.Seal(request, auth.SHA256Integrity)
	if _, ok := c[0].Key.Opens(parse(t, sealed), sealed); !ok {
		t.Error("another key")
	}
	if name, ok := a.ByHash(auth.UserHash(composed, composed)); !ok || name != composed {
		t.Errorf("the hash is %q's", name)
	}
	if _, err := auth.New(auth.Config{Realm: realm, Users: []auth.User{{Name: apart, Password: auth.NewSecret("p")}, {Name: composed, Password: auth.NewSecret("p")}}}); err == nil {
		t.Error("one user twice")
	}
}

// TestUserHash checks the hash against RFC 8489 §B.1.
func TestUserHash(t *testing.T) {
	a := authority(t, auth.Config{Users: []auth.User{{Name: matrix, Password: auth.NewSecret("TheMatrIX")}}})
	if name, ok := a.ByHash([32]byte(vectorHash)); !ok || name != matrix {
		t.Errorf("the hash is %q's, %t", name, ok)
	}
	if _, ok := a.ByHash([32]byte{}); ok {
		t.Error("a hash of nobody's is somebody's")
	}
}

func TestSeal(t *testing.T) {
	request := make([]byte, stun.HeaderLen)
	copy(request, vectorSHA1[:stun.HeaderLen])
	request[2], request[3] = 0, 0
	for _, alg := range []auth.Algorithm{auth.MD5, auth.SHA256} {
		for _, i := range []auth.Integrity{auth.SHA1Integrity, auth.SHA256Integrity} {
			k, other := auth.NewKey("u", realm, "p", alg), auth.NewKey("u", realm, "q", alg)
			sealed := k.Seal(append([]byte(nil), request...), i)
			m := parse(t, sealed)
			if got, ok := k.Opens(m, sealed); !ok || got != i {
				t.Errorf("%d %d: the seal does not open", alg, i)
			}
			if _, ok := other.Opens(m, sealed); ok {
				t.Errorf("%d %d: another key opens it", alg, i)
			}
		}
	}
	// Behind the weaker attribute the stronger one decides (RFC 8489 §9.2.4).
	k := auth.NewKey("u", realm, "p", auth.MD5)
	both := k.Seal(auth.NewKey("u", realm, "wrong", auth.MD5).Seal(append([]byte(nil), request...), auth.SHA1Integrity), auth.SHA256Integrity)
	if i, ok := k.Opens(parse(t, both), both); !ok || i != auth.SHA256Integrity {
		t.Error("the stronger attribute did not decide")
	}
}

func TestTimeLimited(t *testing.T) {
	old, current := auth.NewSecret("old north"), auth.NewSecret("new south")
	a := authority(t, auth.Config{Secrets: []auth.Secret{current, old}})
	name := fmt.Sprint(now.Unix()+60) + ":alice"
	got, err := a.Candidates(nil, name, auth.MD5, now, false)
	if err != nil || len(got) != 2 || got[0].User != "alice" {
		t.Fatalf("%v, %v", got, err)
	}
	// What coturn's use-auth-secret and the REST draft compute.
	for i, text := range []string{"new south", "old north"} {
		mac := hmac.New(sha1.New, []byte(text))
		mac.Write([]byte(name))
		key := auth.NewKey(name, realm, base64.StdEncoding.EncodeToString(mac.Sum(nil)), auth.MD5)
		sealed := key.Seal(make([]byte, stun.HeaderLen), auth.SHA1Integrity)
		copy(sealed[4:], vectorSHA1[4:8])
		sealed = key.Seal(sealed[:stun.HeaderLen], auth.SHA1Integrity)
		if _, ok := got[i].Key.Opens(parse(t, sealed), sealed); !ok {
			t.Errorf("secret %d makes another password", i)
		}
	}

	issued, err := a.Issue("alice", now.Add(time.Minute))
	if err != nil || issued.Username != name {
		t.Fatalf("%+v, %v", issued, err)
	}
	for _, tt := range []struct {
		name  string
		at    time.Time
		holds bool
		want  error
	}{
		{name, now, false, nil},
		{name, now.Add(time.Minute), false, auth.ErrExpired},
		{name, now.Add(time.Hour), true, nil},
		{"alice", now, false, auth.ErrUnknown},
		{":alice", now, false, auth.ErrUnknown},
		{"-5:alice", now, true, auth.ErrUnknown},
		{"99999999999999999999:alice", now, false, auth.ErrUnknown},
		{"", now, false, auth.ErrUnknown},
		{strings.Repeat("1", auth.MaxUsername+1), now, false, auth.ErrUnknown},
	} {
		if _, err := a.Candidates(nil, tt.name, auth.MD5, tt.at, tt.holds); !errors.Is(err, tt.want) {
			t.Errorf("%q at %v: %v, want %v", tt.name, tt.at, err, tt.want)
		}
	}
	if _, err := authority(t, auth.Config{}).Issue("alice", now); err == nil {
		t.Error("credentials without a secret")
	}
	if _, err := authority(t, auth.Config{}).Candidates(nil, name, auth.MD5, now, false); !errors.Is(err, auth.ErrUnknown) {
		t.Error("time-limited credentials without a secret")
	}
}

func TestSignInToken(t *testing.T) {
	signer := token.NewSigner(token.NewSeed())
	a := authority(t, auth.Config{Tokens: signer, Audiences: []token.Audience{token.Join}})
	sign := func(s *token.Signer, aud token.Audience) string {
		text, err := s.Sign(token.Claims{Audience: aud, Room: "r", ID: "j_1", Expires: now.Add(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	name, password, ok := auth.Halves(sign(signer, token.Join))
	if !ok {
		t.Fatal("the token has no halves")
	}
	c, err := a.Candidates(nil, name, auth.MD5, now, false)
	if err != nil || len(c) != 1 || c[0].User != "j_1" {
		t.Fatalf("%v, %v", c, err)
	}
	sealed := auth.NewKey(name, realm, password, auth.MD5).Seal(append([]byte(nil), vectorSHA1[:stun.HeaderLen]...), auth.SHA1Integrity)
	if _, ok := c[0].Key.Opens(parse(t, sealed), sealed); !ok {
		t.Error("the halves do not open the relay")
	}

	// Somebody else's signature is another password, which does not open.
	forged, theirs, _ := auth.Halves(sign(token.NewSigner(token.NewSeed()), token.Join))
	c, err = a.Candidates(nil, forged, auth.MD5, now, false)
	if err != nil {
		t.Fatal(err)
	}
	sealed = auth.NewKey(forged, realm, theirs, auth.MD5).Seal(append([]byte(nil), vectorSHA1[:stun.HeaderLen]...), auth.SHA1Integrity)
	if _, ok := c[0].Key.Opens(parse(t, sealed), sealed); ok {
		t.Error("a token of another signer opens the relay")
	}

	if _, err := a.Candidates(nil, name, auth.MD5, now.Add(time.Hour), false); !errors.Is(err, auth.ErrExpired) {
		t.Errorf("an expired token: %v", err)
	}
	if _, err := a.Candidates(nil, name, auth.MD5, now.Add(time.Hour), true); err != nil {
		t.Errorf("an expired token of who holds an allocation: %v", err)
	}
	other, _, _ := auth.Halves(sign(signer, token.Host))
	if _, err := a.Candidates(nil, other, auth.MD5, now, false); !errors.Is(err, auth.ErrUnknown) {
		t.Errorf("a token for something else: %v", err)
	}
	for _, bad := range []string{"", "st1", "st1.", "st1." + strings.Repeat("x", 600) + ".y"} {
		if _, _, ok := auth.Halves(bad); ok {
			t.Errorf("halves of %q", bad)
		}
	}
}

func TestNonce(t *testing.T) {
	n, other := auth.NewNonces(auth.PasswordAlgorithms), auth.NewNonces(auth.PasswordAlgorithms)
	nonce := n.New(now)
	if !strings.HasPrefix(nonce, "obMatJos2AAAB") { // RFC 8489 §9.2, §18.1
		t.Errorf("nonce %q does not carry the features", nonce)
	}
	for _, tt := range []struct {
		n     *auth.Nonces
		nonce string
		at    time.Time
		want  bool
	}{
		{n, nonce, now, true},
		{n, nonce, now.Add(auth.NonceLife), true},
		{n, nonce, now.Add(auth.NonceLife + time.Second), false},
		{n, nonce, now.Add(-time.Hour), false},
		{other, nonce, now, false},
		{n, "", now, false},
		{n, nonce + "A", now, false},
		{n, nonce[:len(nonce)-1], now, false},
		{n, strings.Replace(nonce, "AAAB", "AAAA", 1), now, false},
	} {
		if got := tt.n.Fresh(tt.nonce, tt.at); got != tt.want {
			t.Errorf("Fresh(%q, %v) = %t", tt.nonce, tt.at, got)
		}
	}
	for i := range nonce {
		b := []byte(nonce)
		b[i] ^= 2
		if n.Fresh(string(b), now) {
			t.Errorf("character %d of the nonce may be changed", i)
		}
	}
}

func TestNothingIsPrinted(t *testing.T) {
	const words = "correct horse"
	a := authority(t, auth.Config{Users: []auth.User{{Name: "u", Password: auth.NewSecret(words)}}, Secrets: []auth.Secret{auth.NewSecret(words)}})
	key := auth.NewKey("u", realm, words, auth.MD5)
	c, err := a.Candidates(nil, "u", auth.MD5, now, false)
	if err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%x", key.Seal(append([]byte(nil), vectorSHA1[:stun.HeaderLen]...), auth.SHA1Integrity))
	for _, v := range []any{auth.NewSecret(words), key, &key, c, auth.NewNonces(0), a, *a, auth.User{Password: auth.NewSecret(words)}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			out := fmt.Sprintf(verb, v)
			if strings.Contains(out, words) || strings.Contains(out, fmt.Sprintf("%x", words)) || strings.Contains(out, sum) {
				t.Errorf("%s of %T shows a secret: %s", verb, v, out)
			}
		}
		if out, err := json.Marshal(v); err == nil && strings.Contains(string(out), words) {
			t.Errorf("JSON of %T shows a secret: %s", v, out)
		}
	}
}

func TestConfig(t *testing.T) {
	pw := auth.NewSecret("p")
	got := map[string]bool{}
	for name, cfg := range map[string]auth.Config{
		"good":         {Realm: realm, Users: []auth.User{{Name: "a", Password: pw}, {Name: "b", Password: pw}}, Secrets: []auth.Secret{pw}},
		"no realm":     {},
		"quote":        {Realm: `a"b`},
		"twice":        {Realm: realm, Users: []auth.User{{Name: "a", Password: pw}, {Name: "a", Password: pw}}},
		"no password":  {Realm: realm, Users: []auth.User{{Name: "a"}}},
		"colon":        {Realm: realm, Users: []auth.User{{Name: "a:b", Password: pw}}},
		"empty secret": {Realm: realm, Secrets: []auth.Secret{auth.NewSecret("")}},
	} {
		_, err := auth.New(cfg)
		got[name] = err == nil
	}
	want := map[string]bool{"good": true, "no realm": false, "quote": false, "twice": false, "no password": false, "colon": false, "empty secret": false}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// FuzzStranger lets strangers choose what they can: whatever name and nonce they make up, they get no further.
func FuzzStranger(f *testing.F) {
	signer := token.NewSigner(token.NewSeed())
	a, err := auth.New(auth.Config{
		Realm: realm, Users: []auth.User{{Name: "u", Password: auth.NewSecret("p")}}, Secrets: []auth.Secret{auth.NewSecret("s")},
		Tokens: signer, Audiences: []token.Audience{token.Join},
	})
	if err != nil {
		f.Fatal(err)
	}
	nonces := auth.NewNonces(auth.PasswordAlgorithms)
	f.Add("u", nonces.New(now.Add(-2*auth.NonceLife)), vectorSHA1)
	f.Add("1900000000:u", "obMatJos2AAAB", vectorSHA1)
	f.Add("st1.e30", "", []byte{})
	f.Fuzz(func(t *testing.T, name, nonce string, request []byte) {
		if nonces.Fresh(nonce, now) {
			t.Fatalf("nonce %q is fresh", nonce)
		}
		candidates, err := a.Candidates(nil, name, auth.MD5, now, false)
		if err != nil && len(candidates) > 0 {
			t.Fatal("candidates beside an error")
		}
		var m stun.Message
		if m.Parse(request) != nil {
			return
		}
		for _, c := range candidates {
			if _, ok := c.Key.Opens(&m, request); ok {
				t.Fatalf("%q opened the relay", name)
			}
		}
	})
}
