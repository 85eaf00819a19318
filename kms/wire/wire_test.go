package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/token"
)

var update = flag.Bool("update", false, "write the golden files anew")

const host = "example.org"

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func uri(kind Kind, n byte) URI {
	return URI{host, kind, ID{0: 0x52, 6: 0x40, 8: 0x80, 15: n}}
}

func bound(n byte) Key {
	m, err := NewMaterial(bytes.Repeat([]byte{n}, KeyLen))
	if err != nil {
		panic(err)
	}
	return Key{
		URI: uri(Keys, n), Material: m, User: "u_alice", Client: "phone", Created: noon, Expires: noon.Add(time.Hour),
		Resource: uri(Resources, 1), Bound: noon.Add(1500 * time.Microsecond),
	}
}

func proofKey() token.ProofKey { return token.ProofKey{Curve: "P-256", X: [32]byte{1}, Y: [32]byte{2}} }

// requests has each operation with all that it may have. Their texts are in testdata.
func requests() map[string]*Request {
	return map[string]*Request{
		"open-token": {ID: "r1", Op: OpOpenSession, Client: &Client{
			ID: "phone", Bearer: NewBearer("st1.abc.def"), Key: proofKey(), Signature: bytes.Repeat([]byte{7}, 64),
		}},
		"open-ed25519": {ID: "r1", Op: OpOpenSession, Client: &Client{
			ID: "phone", Bearer: NewBearer("st1.abc.def"), Key: token.ProofKey{Curve: "Ed25519", X: [32]byte{3}}, Signature: bytes.Repeat([]byte{7}, 64),
		}},
		"open-kms":     {ID: "r1", Op: OpOpenSession, Client: &Client{ID: "example.net", Chain: [][]byte{{0x30, 1}, {0x30, 2}}, Signature: []byte{7}}},
		"renew":        {ID: "r2", Op: OpRenewSession, Client: &Client{ID: "phone", Bearer: NewBearer("st1.ghi.jkl")}},
		"close":        {ID: "r3", Op: OpCloseSession},
		"ping":         {ID: "r4", Op: OpPing},
		"create-keys":  {ID: "r5", Op: OpCreateKeys, Count: 2},
		"create-bound": {ID: "r5", Op: OpCreateKeys, Count: 1, Resource: uri(Resources, 1)},
		"key":          {ID: "r6", Op: OpKey, Object: uri(Keys, 1)},
		"key-for-user": {ID: "r6", Op: OpKey, Object: uri(Keys, 1), User: "u_bob"},
		"bind":         {ID: "r7", Op: OpBindKey, Object: uri(Keys, 1), Resource: uri(Resources, 1)},
		"create-resource": {
			ID: "r8", Op: OpCreateResource, AuthIDs: []string{"u_bob", "群"}, ModeratorIDs: []string{"u_\"carol\""}, Moderated: true,
			KeyURIs: []URI{uri(Keys, 1), uri(Keys, 2)}, Count: 1,
		},
		"create-empty":  {ID: "r8", Op: OpCreateResource},
		"resource":      {ID: "r9", Op: OpResource, Object: uri(Resources, 1)},
		"resource-keys": {ID: "r10", Op: OpResourceKeys, Object: uri(Resources, 1), BoundAfter: noon, BoundBefore: noon.Add(time.Minute), Count: 25},
		"authorize":     {ID: "r11", Op: OpCreateAuthorization, Resource: uri(Resources, 1), AuthIDs: []string{"u_dan"}, Role: Moderator},
		"deauthorize":   {ID: "r12", Op: OpDeleteAuthorization, Object: uri(Authorizations, 1)},
	}
}

func responses() map[string]*Response {
	unbound := bound(3)
	unbound.Resource, unbound.Bound = URI{}, time.Time{}
	key, without := bound(1), Key{URI: uri(Keys, 9)}
	in := Authorization{uri(Authorizations, 1), "u_bob", Participant, noon, uri(Resources, 1)}
	return map[string]*Response{
		"refusal":        Refusal("r1", Refuse(StatusUnauthorized, "not authenticated")),
		"session":        {ID: "r1", Status: StatusCreated, Session: &Session{"u_alice", noon}},
		"done":           {ID: "r3", Status: StatusNoContent},
		"key":            {ID: "r6", Status: StatusOK, Key: &key},
		"key-without":    {ID: "r6", Status: StatusOK, Key: &without},
		"keys":           {ID: "r5", Status: StatusCreated, Keys: []Key{unbound, bound(2)}},
		"resource":       {ID: "r9", Status: StatusOK, Resource: &Resource{uri(Resources, 1), true, uri(Keys, 2), []URI{uri(Keys, 1), uri(Keys, 2)}, []Authorization{in}}},
		"authorizations": {ID: "r11", Status: StatusCreated, Authorizations: []Authorization{in, in}},
		"removed":        {ID: "r12", Status: StatusOK, Authorization: &in, Current: uri(Keys, 2)},
		"reset":          {Status: StatusReset, Reason: "begin again"},
	}
}

// golden compares a text with the file that everybody else implements by, and returns the file's.
func golden(t *testing.T, name string, text []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name+".json")
	trimmed := append(bytes.TrimRight(text, " "), '\n')
	if *update {
		if err := os.WriteFile(path, trimmed, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(trimmed)); diff != "" {
		t.Errorf("text (-golden +written):\n%s", diff)
	}
	return want
}

var plainly = cmp.Options{
	cmp.Comparer(func(a, b Material) bool { return a.Equal(b) }),
	cmp.Comparer(func(a, b Bearer) bool { return a.Equal(b) }),
}

// TestRequests holds every request to its golden file, both ways: the protocol is an open one (K8), so the texts are the promise.
func TestRequests(t *testing.T) {
	for name, r := range requests() {
		t.Run(name, func(t *testing.T) {
			text, err := AppendRequest([]byte("before"), r, host)
			if err != nil {
				t.Fatal(err)
			}
			text = text[len("before"):]
			if len(text)%padTo != 0 {
				t.Errorf("%d bytes tell the relay more than they should", len(text))
			}
			got, refusal := ParseRequest(golden(t, "request-"+name, text), host)
			if refusal != nil {
				t.Fatal(refusal)
			}
			if diff := cmp.Diff(r, got, plainly); diff != "" {
				t.Errorf("request (-written +read):\n%s", diff)
			}
		})
	}
}

func TestResponses(t *testing.T) {
	for name, r := range responses() {
		t.Run(name, func(t *testing.T) {
			text, err := AppendResponse(nil, r)
			if err != nil {
				t.Fatal(err)
			}
			if len(text)%padTo != 0 {
				t.Errorf("%d bytes tell the relay more than they should", len(text))
			}
			got, err := ParseResponse(golden(t, "response-"+name, text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(r, got, plainly); diff != "" {
				t.Errorf("response (-written +read):\n%s", diff)
			}
			if r.Status >= 400 != (got.Err() != nil) || got.Err() != nil && !errors.Is(got.Err(), Refuse(r.Status, "")) {
				t.Errorf("status %d gives error %v", r.Status, got.Err())
			}
		})
	}
}

// Every operation has a golden request: what is not there is not promised.
func TestEveryOperationIsGolden(t *testing.T) {
	seen := map[Op]bool{}
	for _, r := range requests() {
		seen[r.Op] = true
	}
	for o := OpNone + 1; int(o) < len(ops); o++ {
		if !seen[o] {
			t.Errorf("no golden file for %s", o)
		}
	}
}

const uuid = "52000000-0000-4000-8000-000000000001"

func TestRefusedRequests(t *testing.T) {
	long := strings.Repeat("x", MaxName+1)
	many := `["a"` + strings.Repeat(`,"a"`, MaxAuthIDs) + `]`
	for name, text := range map[string]string{
		"empty":                    ``,
		"no object":                `[]`,
		"no id":                    `{"method":"update","uri":"/ping"}`,
		"no method":                `{"requestId":"r","uri":"/ping"}`,
		"a member twice":           `{"requestId":"r","requestId":"r","method":"update","uri":"/ping"}`,
		"twice by an escape":       `{"requestId":"r","method":"update","m\u0065thod":"update","uri":"/ping"}`,
		"an unknown member":        `{"requestId":"r","method":"update","uri":"/ping","x":1}`,
		"something behind":         `{"requestId":"r","method":"update","uri":"/ping"} 1`,
		"a zero behind":            "{\"requestId\":\"r\",\"method\":\"update\",\"uri\":\"/ping\"}\x00",
		"a comma too many":         `{"requestId":"r","method":"update","uri":"/ping",}`,
		"a comma too few":          `{"requestId":"r" "method":"update","uri":"/ping"}`,
		"an unknown method":        `{"requestId":"r","method":"patch","uri":"/ping"}`,
		"a method in capitals":     `{"requestId":"r","method":"UPDATE","uri":"/ping"}`,
		"an unknown uri":           `{"requestId":"r","method":"update","uri":"/pong"}`,
		"a longer uri":             `{"requestId":"r","method":"update","uri":"/ping/"}`,
		"another KMS":              `{"requestId":"r","method":"update","uri":"kms://example.net/ping"}`,
		"a host in capitals":       `{"requestId":"r","method":"retrieve","uri":"kms://Example.org/keys/` + uuid + `"}`,
		"no host":                  `{"requestId":"r","method":"retrieve","uri":"kms:///keys/` + uuid + `"}`,
		"a UUID in capitals":       `{"requestId":"r","method":"retrieve","uri":"/keys/5200000A-0000-4000-8000-000000000001"}`,
		"a UUID in braces":         `{"requestId":"r","method":"retrieve","uri":"/keys/{` + uuid + `}"}`,
		"a control character":      "{\"requestId\":\"r\n\",\"method\":\"update\",\"uri\":\"/ping\"}",
		"an id that is no ASCII":   `{"requestId":"ü","method":"update","uri":"/ping"}`,
		"an id with a line end":    `{"requestId":"r\n","method":"update","uri":"/ping"}`,
		"half a surrogate":         `{"requestId":"r","method":"create","uri":"/authorizations","resourceUri":"kms://example.org/resources/` + uuid + `","authIds":["\ud800"]}`,
		"no UTF-8":                 "{\"requestId\":\"r\",\"method\":\"create\",\"uri\":\"/authorizations\",\"resourceUri\":\"kms://example.org/resources/" + uuid + "\",\"authIds\":[\"\xff\"]}",
		"nobody":                   `{"requestId":"r","method":"create","uri":"/authorizations","resourceUri":"kms://example.org/resources/` + uuid + `","authIds":[]}`,
		"too many":                 `{"requestId":"r","method":"create","uri":"/resources","authIds":` + many + `}`,
		"too long":                 `{"requestId":"r","method":"create","uri":"/resources","authIds":["` + long + `"]}`,
		"no keys":                  `{"requestId":"r","method":"create","uri":"/keys","count":0}`,
		"keys without number":      `{"requestId":"r","method":"create","uri":"/keys"}`,
		"too many keys":            `{"requestId":"r","method":"create","uri":"/keys","count":201}`,
		"a fraction of a key":      `{"requestId":"r","method":"create","uri":"/keys","count":1.0}`,
		"a number with a zero":     `{"requestId":"r","method":"create","uri":"/keys","count":01}`,
		"a number as text":         `{"requestId":"r","method":"create","uri":"/keys","count":"1"}`,
		"a key for a resource":     `{"requestId":"r","method":"create","uri":"/keys","count":1,"resourceUri":"kms://example.org/keys/` + uuid + `"}`,
		"a member of another":      `{"requestId":"r","method":"update","uri":"/ping","count":1}`,
		"a day that is not":        `{"requestId":"r","method":"retrieve","uri":"/resources/` + uuid + `/keys","boundAfter":"2026-02-30T00:00:00Z"}`,
		"a time elsewhere":         `{"requestId":"r","method":"retrieve","uri":"/resources/` + uuid + `/keys","boundAfter":"2026-02-03T00:00:00+01:00"}`,
		"a time spelt otherwise":   `{"requestId":"r","method":"retrieve","uri":"/resources/` + uuid + `/keys","boundAfter":"2026-02-03T00:00:00.0Z"}`,
		"a session of nobody":      `{"requestId":"r","method":"create","uri":"/session","client":{"clientId":"c"}}`,
		"a token without proof":    `{"requestId":"r","method":"create","uri":"/session","client":{"clientId":"c","credential":{"bearer":"t","signature":"AA"}}}`,
		"a key without point":      `{"requestId":"r","method":"create","uri":"/session","client":{"clientId":"c","credential":{"bearer":"t","jwk":{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `"},"signature":"AA"}}}`,
		"a private key":            `{"requestId":"r","method":"create","uri":"/session","client":{"clientId":"c","credential":{"bearer":"t","jwk":{"kty":"OKP","crv":"Ed25519","d":"AA","x":"` + strings.Repeat("A", 43) + `"},"signature":"AA"}}}`,
		"a token and certificates": `{"requestId":"r","method":"create","uri":"/session","client":{"clientId":"c","credential":{"bearer":"t","x5c":["AA"],"signature":"AA"}}}`,
		"padded base64":            `{"requestId":"r","method":"create","uri":"/session","client":{"clientId":"c","credential":{"x5c":["AA=="],"signature":"AA"}}}`,
		"spare bits in base64":     `{"requestId":"r","method":"create","uri":"/session","client":{"clientId":"c","credential":{"x5c":["AB"],"signature":"AA"}}}`,
		"renewed with a key":       `{"requestId":"r","method":"update","uri":"/session","client":{"clientId":"c","credential":{"bearer":"t","signature":"AA"}}}`,
		"above the limit":          `{"requestId":"r","method":"update","uri":"/ping"}` + strings.Repeat(" ", MaxText),
	} {
		if r, refusal := ParseRequest([]byte(text), host); refusal == nil {
			t.Errorf("%s: taken as %s", name, r.Op)
		} else if refusal.Status != StatusBadRequest || refusal.Reason == "" {
			t.Errorf("%s: refused with %v", name, refusal)
		}
	}
	r, refusal := ParseRequest([]byte(`{"requestId":"r","method":"update","uri":"/ping","x":1}`), host)
	if refusal == nil || r.ID != "r" {
		t.Errorf("the refusal does not know its request: %v", r)
	}
	if _, err := AppendRequest(nil, &Request{ID: "r", Op: OpCreateKeys}, host); err == nil {
		t.Error("wrote a request that nobody would read")
	}
	if _, err := AppendRequest(nil, &Request{ID: "r"}, host); err == nil {
		t.Error("wrote a request for nothing")
	}
}

func TestRefusedResponses(t *testing.T) {
	jwk := `{"kty":"oct","k":"` + strings.Repeat("A", 43) + `"}`
	for name, text := range map[string]string{
		"no status":          `{"requestId":"r"}`,
		"a status of none":   `{"status":100}`,
		"a key without uri":  `{"status":200,"key":{"jwk":` + jwk + `}}`,
		"a short key":        `{"status":200,"key":{"uri":"kms://example.org/keys/` + uuid + `","jwk":{"kty":"oct","k":"AAAA"}}}`,
		"a key by escape":    `{"status":200,"key":{"uri":"kms://example.org/keys/` + uuid + `","jwk":{"kty":"oct","k":"\u0041` + strings.Repeat("A", 42) + `"}}}`,
		"a key of no type":   `{"status":200,"key":{"uri":"kms://example.org/keys/` + uuid + `","jwk":{"k":"` + strings.Repeat("A", 43) + `"}}}`,
		"half bound":         `{"status":200,"key":{"uri":"kms://example.org/keys/` + uuid + `","bindDate":"2026-02-03T00:00:00Z"}}`,
		"a resource as key":  `{"status":200,"key":{"uri":"kms://example.org/resources/` + uuid + `"}}`,
		"deep":               `{"status":200,"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
		"unknown and broken": `{"status":200,"x":nul}`,
		"no number":          `{"status":200,"x":-}`,
		"a leading zero":     `{"status":200,"x":01}`,
		"a broken escape":    `{"status":200,"x":"\q"}`,
	} {
		if _, err := ParseResponse([]byte(text)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	later := `{"status":200,"x":{"a":[1,-0.5e+3,true,null,"\ud83d\ude00"]},"requestId":"r"}`
	if r, err := ParseResponse([]byte(later)); err != nil || r.ID != "r" {
		t.Errorf("what a later KMS adds is not passed over: %v, %v", r, err)
	}
	huge := &Response{Status: StatusOK}
	for range MaxText / 50 {
		huge.Authorizations = append(huge.Authorizations, Authorization{URI: uri(Authorizations, 1), AuthID: "u"})
	}
	if out, err := AppendResponse([]byte("x"), huge); err == nil || string(out) != "x" {
		t.Errorf("wrote %d bytes, error %v", len(out), err)
	}
}

// K9: a key URL names the key and the KMS that holds it, and has one spelling.
func TestURI(t *testing.T) {
	u := NewURI("kms.example.org", Keys)
	if got, ok := ParseURI(u.String()); !ok || got != u || got.Host != "kms.example.org" {
		t.Errorf("K9: %s read as %v", u, got)
	}
	if a, b := NewURI(host, Keys), NewURI(host, Keys); a == b {
		t.Error("two fresh URIs are one")
	}
	for _, s := range []string{
		"", "kms://", "kms://example.org", "kms://example.org/keys", "kms://example.org/keys/", "kms://example.org/spaces/" + uuid,
		"kms://example.org:1/keys/" + uuid, "kms://example.org./keys/" + uuid, "kms://-example.org/keys/" + uuid, "kms://exam_ple.org/keys/" + uuid,
		"https://example.org/keys/" + uuid, "kms://example.org/keys/" + uuid + "/", "kms://example.org//keys/" + uuid,
		"kms://example.org/keys/52000000000040008000000000000001", "kms://u@example.org/keys/" + uuid, "kms://" + strings.Repeat("a", 64) + ".org/keys/" + uuid,
	} {
		if u, ok := ParseURI(s); ok {
			t.Errorf("%q read as %v", s, u)
		}
	}
}

// Keys and tokens do not come out by printing, logging or marshalling what holds them, and a buffer that was outgrown is empty.
func TestSecretsAreNotPrinted(t *testing.T) {
	key := bound(0xab)
	response := &Response{Status: StatusOK, Key: &key, Keys: []Key{key}}
	request := requests()["open-token"]
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "response", response, "key", key, "material", key.Material, "request", request, "bearer", request.Client.Bearer)
	outs := []string{log.String()}
	for _, v := range []any{response, *response, key, &key, key.Material, request, request.Client, *request.Client, request.Client.Bearer} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q", "%o"} {
			outs = append(outs, fmt.Sprintf(verb, v))
		}
		if text, err := json.Marshal(v); err == nil {
			t.Errorf("%T was marshalled: %s", v, text)
		}
	}
	for _, out := range outs {
		low := strings.ToLower(out)
		for _, secret := range []string{"abababab", "171 171", "171, 171", "0xab, 0xab", "253 253", "q6urq6ur", "st1.abc"} {
			if strings.Contains(low, secret) {
				t.Errorf("printed: %s", out)
			}
		}
	}
	w := writer{make([]byte, 0, 64)}
	old := w.b[:64]
	w.bytes(key.Material.Expose())
	w.room(4096)
	if !bytes.Equal(old, make([]byte, 64)) {
		t.Errorf("a key is left in a buffer that was let go: %q", old)
	}
	key.Wipe()
	if !bytes.Equal(response.Keys[0].Material.Expose(), make([]byte, KeyLen)) {
		t.Error("a wiped key lives on in a copy")
	}
}

func FuzzParseRequest(f *testing.F) {
	seed(f, "request-*.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		r, refusal := ParseRequest(text, host)
		if refusal != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatalf("taken, but no JSON: %q", text)
		}
		again, err := AppendRequest(nil, r, host)
		if err != nil {
			t.Fatalf("read, but cannot be written: %v", err)
		}
		back, refusal := ParseRequest(again, host)
		if refusal != nil {
			t.Fatal(refusal)
		}
		if diff := cmp.Diff(r, back, plainly); diff != "" {
			t.Errorf("read, written and read again it differs:\n%s", diff)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	seed(f, "response-*.json")
	f.Add([]byte(`{"status":200,"x":{"a":[1,-0.5e+3,true,null,"\ud83d\ude00"]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseResponse(text)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatalf("taken, but no JSON: %q", text)
		}
		again, err := AppendResponse(nil, r)
		if err != nil {
			return // escapes may make it longer than it was
		}
		back, err := ParseResponse(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, back, plainly); diff != "" {
			t.Errorf("read, written and read again it differs:\n%s", diff)
		}
	})
}

func seed(f *testing.F, pattern string) {
	f.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(names) == 0 {
		f.Fatalf("no golden files: %v", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
}
