package wire

import (
	"strconv"
	"time"
)

// Key is a symmetric key. It is unbound, and then known to its creator only, or bound to one resource for ever.
type Key struct {
	URI      URI
	Material Material
	User     string // who made it
	Client   string // and with what
	Created  time.Time
	Expires  time.Time // until when it may be bound, or once bound be used to encrypt; zero: no end
	Resource URI       // zero while it is unbound
	Bound    time.Time
}

// Wipe overwrites the bytes of the key.
func (k *Key) Wipe() { k.Material.Wipe() }

func (k *Key) append(w *writer) {
	w.begin("{")
	w.uri("uri", k.URI)
	if b := k.Material.Expose(); b != nil {
		w.name("jwk")
		w.begin("{")
		w.member("kty", "oct") // RFC 7518 §6.4
		w.name("k")
		w.bytes(b)
		w.end("}")
	}
	w.member("userId", k.User)
	w.member("clientId", k.Client)
	w.time("createDate", k.Created)
	w.time("expirationDate", k.Expires)
	w.uri("resourceUri", k.Resource)
	w.time("bindDate", k.Bound)
	w.end("}")
}

func (c *cursor) key(k *Key) {
	c.object(func(name string) {
		switch name {
		case "uri":
			k.URI = c.uri(name, Keys)
		case "jwk":
			c.material(&k.Material)
		case "userId":
			k.User = c.text(name, MaxName)
		case "clientId":
			k.Client = c.text(name, MaxName)
		case "createDate":
			k.Created = c.time(name)
		case "expirationDate":
			k.Expires = c.time(name)
		case "resourceUri":
			k.Resource = c.uri(name, Resources)
		case "bindDate":
			k.Bound = c.time(name)
		default:
			c.skip(0)
		}
	})
	if c.ok() && (k.URI == (URI{}) || k.Bound.IsZero() != (k.Resource == URI{})) {
		c.fail("a key has a uri, and a bindDate if it has a resourceUri")
	}
}

func (c *cursor) material(m *Material) {
	kty := ""
	c.object(func(name string) {
		switch name {
		case "kty":
			kty = c.text(name, 8)
		case "k":
			*m = Material{m: &material{new([KeyLen]byte)}}
			c.bytes(name, m.Expose())
		default:
			c.skip(0)
		}
	})
	if c.ok() && (kty != "oct" || m.m == nil) {
		c.fail("jwk: want kty oct and k")
	}
}

func (c *cursor) uri(what string, kind Kind) URI {
	s := c.text(what, 400)
	u, ok := ParseURI(s)
	if c.ok() && (!ok || u.Kind != kind) {
		c.fail("%s: want kms://HOST/%s/UUID", what, kind)
	}
	if !c.ok() {
		return URI{}
	}
	return u
}

// Role is what an authorised user may do with a resource beyond fetching its keys.
type Role string

// The roles.
const (
	Participant Role = "participant"
	Moderator   Role = "moderator" // decides who is in, where the resource is moderated
)

func (c *cursor) role(what string) Role {
	r := Role(c.text(what, 16))
	if c.ok() && r != Participant && r != Moderator {
		c.fail("%s: want participant or moderator", what)
	}
	return r
}

// Authorization lets a user fetch the keys of a resource.
type Authorization struct {
	URI      URI
	AuthID   string
	Role     Role
	Created  time.Time
	Resource URI
}

func (a *Authorization) append(w *writer) {
	w.begin("{")
	w.uri("uri", a.URI)
	w.member("authId", a.AuthID)
	w.member("role", string(a.Role))
	w.time("createDate", a.Created)
	w.uri("resourceUri", a.Resource)
	w.end("}")
}

func (c *cursor) authorization(a *Authorization) {
	c.object(func(name string) {
		switch name {
		case "uri":
			a.URI = c.uri(name, Authorizations)
		case "authId":
			a.AuthID = c.text(name, MaxName)
		case "role":
			a.Role = c.role(name)
		case "createDate":
			a.Created = c.time(name)
		case "resourceUri":
			a.Resource = c.uri(name, Resources)
		default:
			c.skip(0)
		}
	})
	if c.ok() && (a.URI == (URI{}) || a.AuthID == "") {
		c.fail("an authorization has a uri and an authId")
	}
}

// Resource stands for something whose content is encrypted, such as a space: the keys for it, and who may have them.
type Resource struct {
	URI            URI
	Moderated      bool // moderators alone decide who is in
	Current        URI  // the one key to encrypt with; zero while there is none
	Keys           []URI
	Authorizations []Authorization
}

func (r *Resource) append(w *writer) {
	w.begin("{")
	w.uri("uri", r.URI)
	if r.Moderated {
		w.name("moderated")
		w.raw("true")
	}
	w.uri("currentKeyUri", r.Current)
	w.uris("keyUris", r.Keys)
	if len(r.Authorizations) > 0 {
		w.name("authorizations")
		w.authorizations(r.Authorizations)
	}
	w.end("}")
}

func (w *writer) uris(name string, uris []URI) {
	if len(uris) == 0 {
		return
	}
	w.name(name)
	w.begin("[")
	for _, u := range uris {
		w.text(u.String())
	}
	w.end("]")
}

func (w *writer) texts(name string, texts []string) {
	if len(texts) == 0 {
		return
	}
	w.name(name)
	w.begin("[")
	for _, s := range texts {
		w.text(s)
	}
	w.end("]")
}

func (w *writer) authorizations(list []Authorization) {
	w.begin("[")
	for i := range list {
		list[i].append(w)
	}
	w.end("]")
}

func (c *cursor) resource(r *Resource) {
	c.object(func(name string) {
		switch name {
		case "uri":
			r.URI = c.uri(name, Resources)
		case "moderated":
			r.Moderated = c.boolean(name)
		case "currentKeyUri":
			r.Current = c.uri(name, Keys)
		case "keyUris":
			c.array(name, maxKeyURIs, func() { r.Keys = append(r.Keys, c.uri(name, Keys)) })
		case "authorizations":
			r.Authorizations = c.authorizations(name)
		default:
			c.skip(0)
		}
	})
	if c.ok() && r.URI == (URI{}) {
		c.fail("a resource has a uri")
	}
}

// maxKeyURIs bounds a list without the keys themselves.
const maxKeyURIs = 500

func (c *cursor) authorizations(what string) (list []Authorization) {
	c.array(what, MaxAuthIDs, func() {
		var a Authorization
		c.authorization(&a)
		list = append(list, a)
	})
	return list
}

// Session is what a client learns when its channel is authenticated.
type Session struct {
	User    string
	Expires time.Time // when the token does; a fresh one prolongs it
}

func (s *Session) append(w *writer) {
	w.begin("{")
	w.member("userId", s.User)
	w.time("expirationDate", s.Expires)
	w.end("}")
}

func (c *cursor) session(s *Session) {
	c.object(func(name string) {
		switch name {
		case "userId":
			s.User = c.text(name, MaxName)
		case "expirationDate":
			s.Expires = c.time(name)
		default:
			c.skip(0)
		}
	})
}

func (c *cursor) status() int {
	n := c.integer("status", 599)
	if c.ok() && n < 200 {
		c.fail("status: %s is none", strconv.Itoa(n))
	}
	return n
}
