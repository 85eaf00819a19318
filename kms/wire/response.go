package wire

// Response answers one request. It has what the operation returns, or a status from 400 and a reason.
type Response struct {
	ID     string
	Status int
	Reason string

	Session        *Session
	Key            *Key
	Keys           []Key
	Resource       *Resource
	Authorization  *Authorization
	Authorizations []Authorization
	Current        URI // after a removal: the new current key of the resource
}

// Refusal returns the response that refuses a request.
func Refusal(id string, e *Error) *Response {
	return &Response{ID: id, Status: e.Status, Reason: e.Reason}
}

// Err returns the refusal in a response, nil if it is none.
func (r *Response) Err() error {
	if r.Status < StatusBadRequest {
		return nil
	}
	return Refuse(r.Status, r.Reason)
}

// Wipe overwrites the keys in the response.
func (r *Response) Wipe() {
	if r.Key != nil {
		r.Key.Wipe()
	}
	for i := range r.Keys {
		r.Keys[i].Wipe()
	}
}

// AppendResponse appends the text of a response to dst, padded. The text holds keys: it is for the caller to overwrite. It returns
// an error, and nothing of the text, if that would be too long.
func AppendResponse(dst []byte, r *Response) ([]byte, error) {
	w := writer{dst}
	begin := len(dst)
	w.raw("{")
	w.name("status")
	w.integer(r.Status)
	w.member("reason", r.Reason)
	w.member("requestId", r.ID)
	if r.Session != nil {
		w.name("session")
		r.Session.append(&w)
	}
	if r.Key != nil {
		w.name("key")
		r.Key.append(&w)
	}
	if len(r.Keys) > 0 {
		w.name("keys")
		w.begin("[")
		for i := range r.Keys {
			r.Keys[i].append(&w)
		}
		w.end("]")
	}
	if r.Resource != nil {
		w.name("resource")
		r.Resource.append(&w)
	}
	if r.Authorization != nil {
		w.name("authorization")
		r.Authorization.append(&w)
	}
	if len(r.Authorizations) > 0 {
		w.name("authorizations")
		w.authorizations(r.Authorizations)
	}
	w.uri("currentKeyUri", r.Current)
	w.raw("}")
	out := w.pad(begin)
	if len(out)-begin > MaxText {
		clear(out[begin:])
		return out[:begin], Refuse(StatusInternal, "the response is too long; ask for less at a time")
	}
	return out, nil
}

// ParseResponse reads a response. Members that it does not know are passed over: a later KMS may say more. The text holds keys: it
// is for the caller to overwrite.
func ParseResponse(text []byte) (*Response, error) {
	r := &Response{}
	if len(text) > MaxText {
		return nil, Refuse(StatusBadRequest, "the text is too long")
	}
	c := cursor{b: text}
	c.object(func(name string) {
		switch name {
		case "status":
			r.Status = c.status()
		case "reason":
			r.Reason = c.text(name, MaxReason)
		case "requestId":
			r.ID = c.requestID()
		case "session":
			r.Session = &Session{}
			c.session(r.Session)
		case "key":
			r.Key = &Key{}
			c.key(r.Key)
		case "keys":
			c.array(name, MaxKeys, func() {
				r.Keys = append(r.Keys, Key{})
				c.key(&r.Keys[len(r.Keys)-1])
			})
		case "resource":
			r.Resource = &Resource{}
			c.resource(r.Resource)
		case "authorization":
			r.Authorization = &Authorization{}
			c.authorization(r.Authorization)
		case "authorizations":
			r.Authorizations = c.authorizations(name)
		case "currentKeyUri":
			r.Current = c.uri(name, Keys)
		default:
			c.skip(0)
		}
	})
	c.end()
	if c.ok() && r.Status == 0 {
		c.fail("status is missing")
	}
	if !c.ok() {
		r.Wipe()
		return nil, c.err
	}
	return r, nil
}
