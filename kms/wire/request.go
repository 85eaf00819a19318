package wire

import (
	"strings"
	"time"

	"github.com/sotto-edge/sotto/internal/token"
)

// Op is what a request asks for: a method and the shape of a uri.
type Op uint8

// The operations.
const (
	OpNone                Op = iota
	OpOpenSession            // prove who holds the channel; nothing else is answered before
	OpRenewSession           // the same with a fresh token
	OpCloseSession           // forget the channel
	OpPing                   // see that the channel is whole
	OpCreateKeys             // fresh keys, unbound or bound at once
	OpKey                    // fetch one key
	OpBindKey                // bind an unbound key; it becomes the current one
	OpCreateResource         // a resource with its keys and members, all or nothing
	OpResource               // fetch what a resource is, without its keys
	OpResourceKeys           // fetch keys of a resource, the latest first
	OpCreateAuthorization    // let users in; they see what was before
	OpDeleteAuthorization    // let a user in no more; the resource gets a new current key
)

// op describes an operation: how it is written, and which members it has beyond method, uri and requestId.
type op struct {
	method     string
	collection string // first element of the path of the uri
	object     bool   // followed by an ID
	part       string // followed by this
	required   []string
	allowed    []string
}

var ops = [...]op{
	OpOpenSession:         {method: "create", collection: "session", required: []string{"client"}},
	OpRenewSession:        {method: "update", collection: "session", required: []string{"client"}},
	OpCloseSession:        {method: "delete", collection: "session"},
	OpPing:                {method: "update", collection: "ping"},
	OpCreateKeys:          {method: "create", collection: "keys", required: []string{"count"}, allowed: []string{"resourceUri"}},
	OpKey:                 {method: "retrieve", collection: "keys", object: true, allowed: []string{"userId"}},
	OpBindKey:             {method: "update", collection: "keys", object: true, required: []string{"resourceUri"}},
	OpCreateResource:      {method: "create", collection: "resources", allowed: []string{"authIds", "moderatorIds", "moderated", "keyUris", "count"}},
	OpResource:            {method: "retrieve", collection: "resources", object: true, allowed: []string{"userId"}},
	OpResourceKeys:        {method: "retrieve", collection: "resources", object: true, part: "keys", allowed: []string{"boundAfter", "boundBefore", "count", "userId"}},
	OpCreateAuthorization: {method: "create", collection: "authorizations", required: []string{"resourceUri", "authIds"}, allowed: []string{"role"}},
	OpDeleteAuthorization: {method: "delete", collection: "authorizations", object: true},
}

// String returns the method and the shape of the uri.
func (o Op) String() string {
	if o == OpNone || int(o) >= len(ops) {
		return "none"
	}
	d := &ops[o]
	s := d.method + " /" + d.collection
	if d.object {
		s += "/UUID"
	}
	if d.part != "" {
		s += "/" + d.part
	}
	return s
}

// Request is one request. Which fields it has is the Op's affair: AppendRequest writes those that are set, ParseRequest takes none
// that do not belong to the Op.
type Request struct {
	ID     string // chosen by the client; a write that comes again under the same one is not done twice
	Op     Op
	Object URI // for operations on one object

	Client *Client // session

	Count        int   // how many keys to make or to fetch
	Resource     URI   // what to bind to, or to let in to
	KeyURIs      []URI // unbound keys for a new resource
	AuthIDs      []string
	ModeratorIDs []string
	Moderated    bool
	Role         Role
	BoundAfter   time.Time // keys bound then or later
	BoundBefore  time.Time // keys bound earlier
	User         string    // whom another KMS asks for
}

// Client says who holds the channel: a user or service by a token and the key it is bound to, or another KMS by its certificate.
type Client struct {
	ID     string // tells the clients of one user apart; proves nothing
	Bearer Bearer

	Key       token.ProofKey
	Chain     [][]byte // DER, leaf first; in place of Bearer and Key
	Signature []byte   // of the channel's binding
}

// AppendRequest appends the text of a request to dst, padded. It returns an error if the result would not be read back.
func AppendRequest(dst []byte, r *Request, host string) ([]byte, error) {
	if r.Op == OpNone || int(r.Op) >= len(ops) {
		return dst, Refuse(StatusBadRequest, "no operation")
	}
	w := writer{dst}
	begin := len(dst)
	w.raw("{")
	w.member("requestId", r.ID)
	d := &ops[r.Op]
	w.member("method", d.method)
	w.name("uri")
	switch {
	case !d.object:
		w.text(scheme + host + "/" + d.collection)
	case d.part != "":
		w.text(r.Object.String() + "/" + d.part)
	default:
		w.text(r.Object.String())
	}
	if r.Client != nil {
		w.name("client")
		r.Client.append(&w)
	}
	w.count("count", r.Count)
	w.uri("resourceUri", r.Resource)
	w.uris("keyUris", r.KeyURIs)
	w.texts("authIds", r.AuthIDs)
	w.texts("moderatorIds", r.ModeratorIDs)
	if r.Moderated {
		w.name("moderated")
		w.raw("true")
	}
	w.member("role", string(r.Role))
	w.time("boundAfter", r.BoundAfter)
	w.time("boundBefore", r.BoundBefore)
	w.member("userId", r.User)
	w.raw("}")
	out := w.pad(begin)
	if _, refusal := ParseRequest(out[begin:], host); refusal != nil {
		return out[:begin], refusal
	}
	return out, nil
}

func (k *Client) append(w *writer) {
	w.begin("{")
	w.member("clientId", k.ID)
	w.name("credential")
	w.begin("{")
	w.member("bearer", k.Bearer.Expose())
	if k.Key != (token.ProofKey{}) {
		w.name("jwk")
		w.begin("{")
		w.member("kty", k.Key.Type())
		w.member("crv", k.Key.Curve)
		w.name("x")
		w.bytes(k.Key.X[:])
		if k.Key.Type() == "EC" {
			w.name("y")
			w.bytes(k.Key.Y[:])
		}
		w.end("}")
	}
	if len(k.Chain) > 0 {
		w.name("x5c")
		w.begin("[")
		for _, c := range k.Chain {
			w.bytes(c)
		}
		w.end("]")
	}
	if len(k.Signature) > 0 {
		w.name("signature")
		w.bytes(k.Signature)
	}
	w.end("}")
	w.end("}")
}

// ParseRequest reads a request to the KMS with the given name. When it fails the Request still has the id if that could be read, so
// that the refusal reaches the request it is about.
func ParseRequest(text []byte, host string) (*Request, *Error) {
	r := &Request{}
	if len(text) > MaxText {
		return r, Refuse(StatusBadRequest, "the text is too long")
	}
	c := cursor{b: text}
	method, path := "", ""
	var present []string
	c.object(func(name string) {
		switch name {
		case "requestId":
			r.ID = c.requestID()
			return
		case "method":
			method = c.text(name, 16)
			return
		case "uri":
			path = c.text(name, 400)
			return
		case "client":
			r.Client = &Client{}
			c.client(r.Client)
		case "count":
			r.Count = c.integer(name, MaxKeys)
		case "resourceUri":
			r.Resource = c.uri(name, Resources)
		case "keyUris":
			c.array(name, MaxKeys, func() { r.KeyURIs = append(r.KeyURIs, c.uri(name, Keys)) })
		case "authIds":
			c.array(name, MaxAuthIDs, func() { r.AuthIDs = append(r.AuthIDs, c.text(name, MaxName)) })
		case "moderatorIds":
			c.array(name, MaxAuthIDs, func() { r.ModeratorIDs = append(r.ModeratorIDs, c.text(name, MaxName)) })
		case "moderated":
			r.Moderated = c.boolean(name)
		case "role":
			r.Role = c.role(name)
		case "boundAfter":
			r.BoundAfter = c.time(name)
		case "boundBefore":
			r.BoundBefore = c.time(name)
		case "userId":
			r.User = c.text(name, MaxName)
		default:
			c.fail("a member that no request has")
		}
		present = append(present, name)
	})
	c.end()
	if c.ok() && r.ID == "" {
		c.fail("requestId is missing")
	}
	if c.ok() {
		c.operation(r, method, path, host)
	}
	if c.ok() {
		c.belong(r, present)
	}
	return r, c.err
}

// requestID reads an id of printable ASCII: it comes back in the response and stands in the audit.
func (c *cursor) requestID() string {
	s := c.text("requestId", MaxID)
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			c.fail("requestId: want printable ASCII")
			return ""
		}
	}
	return s
}

// operation finds what method and uri mean. A uri without scheme and host is one of this KMS, as in the draft.
func (c *cursor) operation(r *Request, method, path, host string) {
	at := host
	if rest, ok := strings.CutPrefix(path, scheme); ok {
		at, path, _ = strings.Cut(rest, "/")
		path = "/" + path
	}
	parts := strings.Split(path, "/")
	if !ValidHost(at) || len(parts) < 2 || parts[0] != "" {
		c.fail("uri: want kms://HOST/…")
		return
	}
	for o := range ops {
		d := &ops[o]
		want := 2
		if d.object {
			want++
		}
		if d.part != "" {
			want++
		}
		if d.method == "" || d.method != method || d.collection != parts[1] || len(parts) != want || d.part != "" && parts[3] != d.part {
			continue
		}
		r.Op = Op(o)
		if !d.object {
			if at != host {
				c.fail("uri: this is another KMS")
			}
			return
		}
		id, ok := ParseID(parts[2])
		if !ok {
			c.fail("uri: want a UUID in lower case")
			return
		}
		r.Object = URI{at, Kind(d.collection), id}
		return
	}
	c.fail("no such method and uri")
}

// belong refuses members that the operation has not, and the lack of those that it must have.
func (c *cursor) belong(r *Request, present []string) {
	d := &ops[r.Op]
	for _, name := range present {
		if !contains(d.required, name) && !contains(d.allowed, name) {
			c.fail("%s does not belong to this request", name)
		}
	}
	for _, name := range d.required {
		if !contains(present, name) {
			c.fail("%s is missing", name)
		}
	}
	if contains(d.required, "authIds") && len(r.AuthIDs) == 0 {
		c.fail("authIds: want at least one")
	}
	if c.ok() && (r.Op == OpOpenSession || r.Op == OpRenewSession) {
		c.credential(r)
	}
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// credential refuses a session that is opened with something other than token, key and signature, or certificates and signature,
// or renewed with something other than a token.
func (c *cursor) credential(r *Request) {
	k := r.Client
	byToken := k.Bearer.Expose() != ""
	key, chain, signature := k.Key != token.ProofKey{}, len(k.Chain) > 0, len(k.Signature) > 0
	switch {
	case k.ID == "":
		c.fail("clientId is missing")
	case r.Op == OpRenewSession && (!byToken || key || chain || signature):
		c.fail("credential: a session is renewed by bearer alone")
	case r.Op == OpOpenSession && (!signature || byToken != key || byToken == chain):
		c.fail("credential: want bearer, jwk and signature, or x5c and signature")
	}
}

func (c *cursor) client(k *Client) {
	c.object(func(name string) {
		switch name {
		case "clientId":
			k.ID = c.text(name, MaxName)
		case "credential":
			c.object(func(name string) { c.credentialMember(k, name) })
		default:
			c.fail("client: a member that it has not")
		}
	})
}

func (c *cursor) credentialMember(k *Client, name string) {
	switch name {
	case "bearer":
		k.Bearer = NewBearer(c.text(name, MaxBearer))
	case "jwk":
		c.proofKey(&k.Key)
	case "x5c":
		c.array(name, MaxChain, func() { k.Chain = append(k.Chain, c.blob(name, maxCert)) })
	case "signature":
		k.Signature = c.blob(name, 1024)
	default:
		c.fail("credential: a member that it has not")
	}
}

// blob reads a string in base64url of up to most characters.
func (c *cursor) blob(what string, most int) []byte {
	s := c.span(what)
	if !c.ok() {
		return nil
	}
	out := make([]byte, encoding.DecodedLen(len(s)))
	if len(s) == 0 || len(s) > most {
		c.fail("%s: want 1 to %d characters", what, most)
		return nil
	}
	if _, err := encoding.Decode(out, s); err != nil {
		c.fail("%s: want base64url", what)
		return nil
	}
	return out
}

func (c *cursor) proofKey(k *token.ProofKey) {
	kty := ""
	y := false
	c.object(func(name string) {
		switch name {
		case "kty":
			kty = c.text(name, 8)
		case "crv":
			k.Curve = c.text(name, 16)
		case "x":
			c.bytes(name, k.X[:])
		case "y":
			c.bytes(name, k.Y[:])
			y = true
		default:
			c.fail("jwk: a member that the key has not")
		}
	})
	if c.ok() && (kty == "" || k.Type() != kty || y != (kty == "EC")) {
		c.fail("jwk: want OKP with Ed25519 or EC with P-256")
	}
}
