package channel

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// recording is what a relay has of one session, all of it.
type recording struct {
	Suite    Suite
	Identity []byte
	Open     []byte
	Accept   []byte
	ToKMS    [][]byte
	ToClient [][]byte
}

// mac, extract and expand are HKDF from its definition (RFC 5869 §2), so that the golden files are checked by other code than made them.
func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// keys follows docs/kms-protocol.md §3.4 from the two secrets.
type keys struct{ toKMS, toKMSIV, toClient, toClientIV, binding, confirm []byte }

func schedule(r *recording, static, fresh []byte) keys {
	hash := sha256.New()
	hash.Write([]byte("sotto kms 1 transcript\x00"))
	for _, part := range [][]byte{r.Open, r.Accept[:len(r.Accept)-32]} {
		hash.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		hash.Write(part)
	}
	sum := hash.Sum(nil)
	prk := mac(static, fresh)
	expand := func(what string) []byte { return mac(prk, []byte("sotto kms 1 "+what+"\x00"), sum, []byte{1}) }
	return keys{
		expand("to kms key"), expand("to kms iv")[:12], expand("to client key"), expand("to client iv")[:12],
		expand("binding"), expand("confirm"),
	}
}

// staticSecret is what who has the static key gets from the first frame: a shared secret and the client's ephemeral public key.
func staticSecret(r *recording, static hpke.PrivateKey) (secret, public []byte, err error) {
	n := int(binary.BigEndian.Uint16(r.Open[36:]))
	enc, sealed := r.Open[38:38+n], r.Open[38+n+2:]
	info := append([]byte("sotto kms 1 open\x00"), r.Open[:36]...)
	recipient, err := hpke.NewRecipient(enc, static, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
	if err != nil {
		return nil, nil, err
	}
	if public, err = recipient.Open(nil, sealed); err != nil {
		return nil, nil, err
	}
	secret, err = recipient.Export("sotto kms 1 static", 32)
	return secret, public, err
}

// freshSecret is what who has an ephemeral key gets from the second.
func freshSecret(r *recording, ephemeral hpke.PrivateKey) ([]byte, error) {
	sum := sha256.Sum256(r.Open)
	info := append([]byte("sotto kms 1 accept\x00"), sum[:]...)
	info = append(info, r.Accept[1:17]...)
	n := int(binary.BigEndian.Uint16(r.Accept[17:]))
	recipient, err := hpke.NewRecipient(r.Accept[19:19+n], ephemeral, hpke.HKDFSHA256(), hpke.ExportOnly(), info)
	if err != nil {
		return nil, err
	}
	return recipient.Export("sotto kms 1 ephemeral", 32)
}

func openFrameWith(key, iv []byte, direction byte, frame []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	nonce := bytes.Clone(iv)
	for i := range 8 {
		nonce[4+i] ^= frame[17+i]
	}
	data := append([]byte("sotto kms 1 frame\x00"), direction)
	return aead.Open(nil, nonce, frame[25:], append(data, frame[:25]...))
}

// opened returns the texts of the frames that the keys open.
func (k *keys) opened(r *recording) (texts []string) {
	for _, f := range r.ToKMS {
		if text, err := openFrameWith(k.toKMS, k.toKMSIV, 1, f); err == nil {
			texts = append(texts, string(text))
		}
	}
	for _, f := range r.ToClient {
		if text, err := openFrameWith(k.toClient, k.toClientIV, 2, f); err == nil {
			texts = append(texts, string(text))
		}
	}
	return texts
}

// record runs a session and keeps what a relay sees. The client's ephemeral key comes back too, for the controls of the test: a
// client that has wiped it is what is being tested.
func record(t *testing.T, i *Identity, p *Peer, suite Suite, texts ...string) (*recording, hpke.PrivateKey) {
	t.Helper()
	o, open, err := Open(p, suite)
	if err != nil {
		t.Fatal(err)
	}
	ephemeral := o.o.ephemeral
	kms, _, answer, err := Accept([]*Identity{i}, open)
	if err != nil {
		t.Fatal(err)
	}
	client, err := o.Finish(answer)
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{Suite: suite, Identity: i.Frame(), Open: open, Accept: answer}
	for _, text := range texts {
		r.ToKMS = append(r.ToKMS, seal(t, client, text))
		r.ToClient = append(r.ToClient, seal(t, kms, text+" answered"))
	}
	client.Wipe()
	kms.Wipe()
	return r, ephemeral
}

// TestStolenStaticKey: everything that the relay recorded, and all static keys of the KMS stolen afterwards, open nothing (K7). The
// thief is shown to be able: with the client's ephemeral key, which nobody has any more, the same code opens everything.
func TestStolenStaticKey(t *testing.T) {
	i, p := pair(t)
	eachSuite(t, func(t *testing.T, suite Suite) {
		r, ephemeral := record(t, i, p, suite, "token st1.secret", "key 2")
		stolen := i.keys.private[suite]
		static, public, err := staticSecret(r, stolen)
		if err != nil || !bytes.Equal(public, ephemeral.PublicKey().Bytes()) {
			t.Fatalf("the stolen key is not the one: %v", err)
		}
		fresh, err := freshSecret(r, ephemeral)
		if err != nil {
			t.Fatal(err)
		}
		able := schedule(r, static, fresh)
		if n := len(able.opened(r)); n != 4 {
			t.Fatalf("the thief is not able: opens %d of 4 frames with all keys", n)
		}

		guesses := map[string][]byte{"nothing": {}, "zeros": make([]byte, 32), "the static secret": static}
		if s, err := freshSecret(r, stolen); err == nil { // P-256 and the hybrid take any key and give another secret
			guesses["the static key for the ephemeral one"] = s
		}
		own, err := suite.kem().GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		if s, err := freshSecret(r, own); err == nil {
			guesses["a key of the thief"] = s
		}
		for name, guess := range guesses {
			k := schedule(r, static, guess)
			if texts := k.opened(r); len(texts) > 0 {
				t.Errorf("opened with %s: %q", name, texts)
			}
		}
		// As the KMS, with the frames that were recorded.
		again, _, _, err := Accept([]*Identity{i}, r.Open)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.ToKMS {
			if _, err := again.Open(nil, f); err == nil {
				t.Error("a replayed handshake takes the frames of the first")
			}
			for _, h := range []*half{again.in, again.out} { // whatever the session is called
				nonce := h.nonce(binary.BigEndian.Uint64(f[17:]))
				if _, err := h.secrets.aead.Open(nil, nonce[:], f[25:], h.data(f[:25])); err == nil {
					t.Error("a replayed handshake has the keys of the first")
				}
			}
		}
		// The other half alone: the ephemeral key without the static one, which an attacker on the client's memory might have.
		for _, guess := range [][]byte{make([]byte, 32), fresh} {
			k := schedule(r, guess, fresh)
			if texts := k.opened(r); len(texts) > 0 {
				t.Errorf("opened without the static key: %q", texts)
			}
		}
	})
}

// TestOpaque: nothing of what is said, nor who says it, is in what a relay sees (K3).
func TestOpaque(t *testing.T) {
	i, p := pair(t)
	r, _ := record(t, i, p, Hybrid, "st1.token-of-alice", "u_alice")
	var all []byte
	for _, f := range append(append([][]byte{r.Identity, r.Open, r.Accept}, r.ToKMS...), r.ToClient...) {
		all = append(all, f...)
	}
	if !bytes.Contains(all, []byte(domain)) {
		t.Fatal("the search does not find the name of the KMS, which is there")
	}
	for _, secret := range []string{"st1.", "alice", "answered"} {
		if bytes.Contains(all, []byte(secret)) {
			t.Errorf("the relay reads %q", secret)
		}
	}
}

// golden is one session with its private keys, for others to test their implementation by.
type golden struct {
	Suite     string   `json:"suite"`
	Identity  string   `json:"identityFrame"`
	Static    string   `json:"staticPrivateKey"`
	Ephemeral string   `json:"ephemeralPrivateKey"`
	Open      string   `json:"openFrame"`
	Accept    string   `json:"acceptFrame"`
	StaticSS  string   `json:"staticSecret"`
	FreshSS   string   `json:"ephemeralSecret"`
	Binding   string   `json:"binding"`
	Frames    []string `json:"dataFrames"` // client, KMS, client, KMS
	Texts     []string `json:"texts"`
}

// TestGoldenSession checks a recorded session with code written from the page and not from the package: what the page says is what
// is spoken, for ever.
func TestGoldenSession(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite Suite) {
		path := filepath.Join("testdata", "session-"+suite.String()+".json")
		if *update {
			writeGolden(t, path, suite)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var g golden
		if err := json.Unmarshal(text, &g); err != nil {
			t.Fatal(err)
		}
		unhex := func(s string) []byte {
			b, err := hex.DecodeString(s)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		static, err := suite.kem().NewPrivateKey(unhex(g.Static))
		if err != nil {
			t.Fatal(err)
		}
		ephemeral, err := suite.kem().NewPrivateKey(unhex(g.Ephemeral))
		if err != nil {
			t.Fatal(err)
		}
		r := &recording{Suite: suite, Open: unhex(g.Open), Accept: unhex(g.Accept)}
		for n, f := range g.Frames {
			if n%2 == 0 {
				r.ToKMS = append(r.ToKMS, unhex(f))
			} else {
				r.ToClient = append(r.ToClient, unhex(f))
			}
		}
		a, public, err := staticSecret(r, static)
		if err != nil || !bytes.Equal(public, ephemeral.PublicKey().Bytes()) || hex.EncodeToString(a) != g.StaticSS {
			t.Fatalf("static secret %x, error %v", a, err)
		}
		b, err := freshSecret(r, ephemeral)
		if err != nil || hex.EncodeToString(b) != g.FreshSS {
			t.Fatalf("ephemeral secret %x, error %v", b, err)
		}
		k := schedule(r, a, b)
		if hex.EncodeToString(k.binding) != g.Binding || !bytes.Equal(k.confirm, r.Accept[len(r.Accept)-32:]) {
			t.Error("binding or proof differ")
		}
		if got := k.opened(r); len(got) != 4 || got[0] != g.Texts[0] || got[1] != g.Texts[2] || got[2] != g.Texts[1] || got[3] != g.Texts[3] {
			t.Errorf("texts %q", got)
		}
		// The package reads the same frames as a client with that ephemeral key.
		o := &Opening{o: &opening{ephemeral, (*[secretLen]byte)(a), r.Open}}
		client, err := o.Finish(r.Accept)
		if err != nil {
			t.Fatal(err)
		}
		opens(t, client, r.ToClient[0], g.Texts[1])
		opens(t, client, r.ToClient[1], g.Texts[3])
		f, err := parseIdentityFrame(unhex(g.Identity))
		if err != nil {
			t.Fatal(err)
		}
		if s, err := parseStatement(f.statement); err != nil || sha256.Sum256(f.statement) != [32]byte(r.Open[4:36]) || s.domain != domain {
			t.Errorf("the session is not opened to the identity: %v", err)
		}
	})
}

func writeGolden(t *testing.T, path string, suite Suite) {
	t.Helper()
	i, p := pair(t)
	r, ephemeral := record(t, i, p, suite, "first", "second")
	static, _, err := staticSecret(r, i.keys.private[suite])
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := freshSecret(r, ephemeral)
	if err != nil {
		t.Fatal(err)
	}
	secret := func(k hpke.PrivateKey) string {
		b, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(b)
	}
	k := schedule(r, static, fresh)
	g := golden{
		Suite: suite.String(), Identity: hex.EncodeToString(r.Identity), Static: secret(i.keys.private[suite]), Ephemeral: secret(ephemeral),
		Open: hex.EncodeToString(r.Open), Accept: hex.EncodeToString(r.Accept), StaticSS: hex.EncodeToString(static),
		FreshSS: hex.EncodeToString(fresh), Binding: hex.EncodeToString(k.binding),
		Texts: []string{"first", "first answered", "second", "second answered"},
	}
	for n := range r.ToKMS {
		g.Frames = append(g.Frames, hex.EncodeToString(r.ToKMS[n]), hex.EncodeToString(r.ToClient[n]))
	}
	text, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
