package wire

// Caller is whom a request is answered for, as the KMS has verified it. It is no part of a text.
type Caller struct {
	User    string // opaque id of a user or service account
	Domain  string // the mail domain that it belongs to
	Client  string // which of its clients; proves nothing
	Service string // type of a service account; empty for users
	Peer    string // domain of the KMS that asks on the user's behalf; empty where the user asks himself
	Token   string // id of the token, for the audit
	Suite   string // how the channel is protected, for the audit
	Session string // id of the session, for the audit
	Request string // id of the request: with the user it is the idempotency key of a write
}

// NewResource is what a resource is made with.
type NewResource struct {
	AuthIDs      []string
	ModeratorIDs []string
	Moderated    bool
	KeyURIs      []URI // unbound keys of the caller
	Count        int   // fresh keys besides
}

// Range picks keys of a resource.
type Range struct {
	After, Before int64 // bound in [After, Before), microseconds since 1970; 0: no bound
	Count         int   // the latest so many; never 0
}
