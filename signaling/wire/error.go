package wire

// Code is the stable name of an error. Programs match it; people read message and hint.
type Code string

// The codes. None is ever renamed or used for something else.
const (
	BadRequest         Code = "bad_request"         // malformed, a field missing or of the wrong type, an unknown type or value
	UnsupportedVersion Code = "unsupported_version" // the server does not speak the version asked for
	Unauthorized       Code = "unauthorized"        // no token, or one that does not verify
	TokenExpired       Code = "token_expired"       // the token was good once; get a new one
	Forbidden          Code = "forbidden"           // known, but not allowed
	RoomClosed         Code = "room_closed"         // the room was closed for good
	RoomFull           Code = "room_full"           // no seat is free
	NotFound           Code = "not_found"           // no such room, participant or track
	TooLarge           Code = "too_large"           // a frame, body or text above its limit
	RateLimited        Code = "rate_limited"        // too many requests; see retryAfterMs
	TooMany            Code = "too_many"            // a list or a count above its limit
	Conflict           Code = "conflict"            // does not fit the state: joined already, id used before
	StaleOffer         Code = "stale_offer"         // the answer is not for the outstanding offer
	SessionGone        Code = "session_gone"        // no such session, or it cannot be resumed without a gap; join again
	Internal           Code = "internal"            // the server's fault; its log says more
	UnsupportedCodec   Code = "unsupported_codec"   // unknown, or not for this kind of media
)

// Values returns the known codes.
func (Code) Values() []string {
	return []string{
		string(BadRequest), string(UnsupportedVersion), string(Unauthorized), string(TokenExpired), string(Forbidden),
		string(RoomClosed), string(RoomFull), string(NotFound), string(TooLarge), string(RateLimited), string(TooMany),
		string(Conflict), string(StaleOffer), string(SessionGone), string(Internal), string(UnsupportedCodec),
	}
}

// Error is a refusal as the client sees it.
type Error struct {
	Code Code `json:"code"`
	// What is wrong, in English, for people.
	Message string `json:"message"`
	// What to do about it, in English, for people; may be "".
	Hint string `json:"hint"`
	// When to try again, in milliseconds; 0 where trying again does not help or needs no wait.
	RetryAfterMs int `json:"retryAfterMs"`
}

// Error implements error.
func (e *Error) Error() string { return "wire: " + string(e.Code) + ": " + e.Message }

// Is makes errors.Is match by code, so that callers need not compare texts.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}
