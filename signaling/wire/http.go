package wire

// MeetingRequest is the body of POST /api/v1/meetings. It has no fields yet.
type MeetingRequest struct{}

// Meeting is the answer to POST /api/v1/meetings.
type Meeting struct {
	// The room's id.
	Room string `json:"room"`
	// The page to send to others.
	URL string `json:"url"`
	// Makes its holder a host of the room; keep it secret.
	HostToken string `json:"hostToken"`
}

// TokenRequest is the body of POST /api/v1/meetings/{room}/token.
type TokenRequest struct {
	// From the meeting: makes the holder of the new token a host.
	HostToken string `json:"hostToken,omitempty" limit:"2048 bytes"`
	// Put into the token: the seat has this name then, whatever join says.
	Name string `json:"name,omitempty" limit:"64 characters"`
}

// TokenReply is the answer to POST /api/v1/meetings/{room}/token.
type TokenReply struct {
	// For join.
	Token string `json:"token"`
	Role  Role   `json:"role"`
	// Milliseconds since 1970-01-01 UTC.
	ExpiresAt int64 `json:"expiresAt"`
}

// WatchRequest is the body of POST /api/v1/meetings/{room}/watch-token.
type WatchRequest struct {
	// From the meeting: only a host lets others watch without a seat.
	HostToken string `json:"hostToken" limit:"2048 bytes"`
}

// WatchReply is the answer to POST /api/v1/meetings/{room}/watch-token.
type WatchReply struct {
	// For WHEP, and behind the # of a link to the page /watch/{room}.
	Token string `json:"token"`
	// Milliseconds since 1970-01-01 UTC.
	ExpiresAt int64 `json:"expiresAt"`
}

// HTTPError is the body of every HTTP answer with a status of 400 and above.
type HTTPError struct {
	Error Error `json:"error"`
}
