// Package wire is the language between a KMS and its clients: the requests and responses of docs/kms-protocol.md and the objects in
// them, which are those of draft-abiggs-saag-key-management-service (key, resource, authorization).
//
// It owns the texts: what they look like, what is refused, and the limits. It promises that a text that is read back is the same
// text, that nothing is taken that has two meanings (a member twice, a number out of range, a name in upper case), and that the
// bytes of keys are only where the codec puts them: in a type that cannot be printed or marshalled, in the text itself, and nowhere
// else. How a text travels is for kms/channel to say, what a request does for the KMS, and who may send it as well.
package wire

import "fmt"

// Limits of one text. What is above is refused before it is looked at.
const (
	MaxText    = 192 << 10 // bytes of a request or response; fits into one frame of a channel
	MaxKeys    = 200       // keys of one request or response
	MaxAuthIDs = 1000      // users of one request; authorizations of one response
	MaxName    = 256       // bytes of a user's or client's id
	MaxReason  = 512       // bytes of a reason
	MaxID      = 64        // bytes of a request id
	MaxBearer  = 2048      // bytes of a token
	MaxChain   = 5         // certificates of another KMS
	maxCert    = 8 << 10   // bytes of one of them, in base64
)

// Statuses of a response: those of RFC 9110 §15, and one of the draft's own.
const (
	StatusOK           = 200
	StatusCreated      = 201
	StatusNoContent    = 204
	StatusBadRequest   = 400
	StatusUnauthorized = 401 // one answer for every reason: the audit knows which
	StatusForbidden    = 403 // also for what does not exist: who may not know gets no other answer
	StatusNotFound     = 404
	StatusConflict     = 409 // a key that is bound already; a request id used for another request
	StatusTooMany      = 429
	StatusReset        = 499 // forget the channel and what was fetched in advance, and begin again
	StatusInternal     = 500
	StatusUnavailable  = 503 // sealed, or the database away; try again
)

// Error is a refusal: what a response says, and what reading a text that is none returns.
type Error struct {
	Status int
	Reason string // for people; says nothing of what was sent
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("wire: %d %s", e.Status, e.Reason) }

// Is makes errors.Is match by status.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Status == e.Status
}

// Refuse returns the refusal with a status and a reason.
func Refuse(status int, reason string) *Error { return &Error{status, reason} }
