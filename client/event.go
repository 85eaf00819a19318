package client

import "github.com/sotto-edge/sotto/signaling/wire"

// Event is what Events delivers: an event of the protocol as the server sent it (*wire.Joined, *wire.TrackAdded, *wire.ChatLine, …;
// offers are answered and not shown), or one of the client's own, which are below.
type Event interface {
	// Kind returns the event's name; those of the client's own begin with "client.".
	Kind() string
}

// Dropped says that the WebSocket is lost and is being taken up again. Media goes on.
type Dropped struct{ Err error }

// Resumed says that the WebSocket is back. Every event missed follows.
type Resumed struct{ Attempts int }

// Transport says how the media transport fares, as the client itself sees it; *wire.Media is the server's view.
type Transport struct{ State wire.MediaState }

// Kind implements Event.
func (*Dropped) Kind() string { return "client.dropped" }

// Kind implements Event.
func (*Resumed) Kind() string { return "client.resumed" }

// Kind implements Event.
func (*Transport) Kind() string { return "client.transport" }
