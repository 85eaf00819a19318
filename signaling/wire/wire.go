// Package wire is the message schema of Sotto's signaling protocol, version 1: JSON text frames over a WebSocket, and the few
// JSON bodies of the HTTP calls around it.
//
// It owns the types, their limits, the strict decoder for what clients send and the encoder for what servers send. The web
// client's types (web/src/wire.ts) are generated from it, so both ends are written against one text; docs/signaling.md
// describes it for everybody else.
//
// It promises that a decoded request has every required field, of the right type, inside its limits and with known values in
// its enumerations; an error says which field is wrong. Unknown fields are ignored, so that a newer client may talk to an
// older server. It does not know rooms, sessions or sockets.
package wire

//go:generate go run ./tsgen -o ../../web/src/wire.ts

// Version is the protocol version that join and resume must name.
const Version = 1

// Subprotocol is the WebSocket subprotocol that client and server agree on (RFC 6455 §1.9).
const Subprotocol = "sotto.v1"

// Limits of version 1 that are the same on every server. Those that a server may set stand in Limits.
const (
	MaxFrameBytes   = 64 << 10 // of a client's frame; an answer is the largest
	MaxChatBytes    = 2 << 10
	MaxNameChars    = 64
	MaxTokenBytes   = 2 << 10
	MaxPublications = 8       // of one participant
	MaxTracks       = 64      // in one request
	MaxPixels       = 1 << 14 // of a view, in each direction
	MaxSafeInteger  = 1<<53 - 1
)

// Codes of the WebSocket close frame (RFC 6455 §7.4) that carry a meaning of this protocol.
const (
	CloseNormal    = 1000 // after leave
	CloseGoingAway = 1001 // the server stops; see the closing event before it
	CloseViolation = 1008 // too many malformed or refused requests, or no join in time
	CloseTooBig    = 1009 // a frame far above the limit
	CloseTakenOver = 4001 // another socket resumed this session; do not reconnect
	CloseSlow      = 4002 // the client read too slowly; resume
	CloseRemoved   = 4003 // removed by a host, or the room was closed; see the removed event before it
	CloseExpired   = 4004 // the session ended on the server; join again
)

// Request is what a client sends: one of the types of Requests.
type Request interface {
	// Kind returns the message type, such as "join".
	Kind() string
}

// Reply is what a server answers to one request: one of the types of Replies.
type Reply interface {
	// Kind returns the message type, such as "join.ok".
	Kind() string
	reply()
}

// Event is what a server sends of its own accord: one of the types of Events.
type Event interface {
	// Kind returns the message type, such as "offer".
	Kind() string
	event()
}

// Requests returns one empty value of each request type, in the order of the documentation.
func Requests() []Request {
	return []Request{
		&Join{}, &Resume{}, &Publish{}, &Unpublish{}, &Subscribe{}, &Unsubscribe{}, &View{}, &Data{}, &Answer{}, &Mute{}, &Moderate{},
		&RecordStart{}, &RecordStop{}, &Chat{}, &Restart{}, &Leave{}, &Ping{},
	}
}

// Replies returns one empty value of each reply type.
func Replies() []Reply {
	return []Reply{
		&JoinOK{}, &ResumeOK{}, &PublishOK{}, &UnpublishOK{}, &SubscribeOK{}, &UnsubscribeOK{}, &ViewOK{}, &DataOK{}, &AnswerOK{},
		&MuteOK{}, &ModerateOK{}, &RecordStartOK{}, &RecordStopOK{}, &ChatOK{}, &RestartOK{}, &LeaveOK{}, &PingOK{}, &Failure{},
	}
}

// Events returns one empty value of each event type.
func Events() []Event {
	return []Event{
		&Offer{}, &Slots{}, &Demand{}, &Quality{}, &DataClosed{}, &Media{}, &Joined{}, &Left{}, &Updated{}, &TrackAdded{}, &TrackRemoved{}, &TrackMuted{},
		&TrackLive{}, &Speaker{}, &Recording{}, &ChatLine{}, &Removed{}, &Closing{},
	}
}
