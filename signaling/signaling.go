// Package signaling is the use-cases of a meeting: open one, join, publish, subscribe, mute, moderate, chat, leave; and the protocol
// session that carries them over a connection which may break and come back (docs/signaling.md).
//
// It owns rooms and their rosters, sessions with their event numbers and replayable replies, and the rules of who may do what.
// It promises that events of a session have no gaps and no repetitions, also across a lost connection; that a request which is sent
// again under its id is not executed again; that every limit is answered by its code; that nothing outside is called while a
// room's lock is held; and that Close returns when everything it started is gone.
//
// It knows neither sockets nor HTTP: a front door (package ws) hands it frames. It knows no packets: those are of package sfu,
// which it reaches through Media and Endpoint and hears of as sfu's Observer. Names and chat of a room are in memory only.
package signaling

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// Media makes endpoints of conferences. NodeMedia is the real one.
//
// Errors of it and of Endpoint that are a *wire.Error go to the client as they are; others are logged and called internal.
type Media interface {
	Join(ctx context.Context, conference string, o sfu.JoinOptions) (Endpoint, error)
	// JoinOffered is for clients that offer; it returns the answer.
	JoinOffered(ctx context.Context, conference string, o sfu.OfferedJoin) (Endpoint, *sfu.Offer, error)
}

// Endpoint is one participant's media: what *sfu.Endpoint does. Methods may be called from any goroutine.
type Endpoint interface {
	Tracks(ctx context.Context) (map[sfu.Source]sfu.TrackID, error)
	Publish(ctx context.Context, p sfu.Publish) (sfu.TrackID, error)
	Unpublish(ctx context.Context, t sfu.TrackID) error
	Subscribe(ctx context.Context, t []sfu.TrackID) error
	Unsubscribe(ctx context.Context, t []sfu.TrackID) error
	SetViews(ctx context.Context, v []sfu.View) error
	SetVideos(ctx context.Context, n int) error
	SetMuted(ctx context.Context, t sfu.TrackID, muted bool) error
	OpenData(ctx context.Context) error
	MuteData(ctx context.Context, muted bool) error
	Answer(ctx context.Context, number int, a sfu.Answer) error
	Restart(ctx context.Context) error
	RestartOffered(ctx context.Context, p sfu.ICEParams) (sfu.ICEParams, error)
	Close() error
}

// Recorder records conferences. NodeMedia is the real one, of a node that has a recorder. That a recording has begun or ended is
// heard as an event. Refusals that are meant for clients are a *wire.Error.
type Recorder interface {
	// StartRecording begins to record; by says who wants it, "" is the administrator.
	StartRecording(ctx context.Context, conference, by string) error
	// StopRecording ends it, and returns when it is on disk.
	StopRecording(ctx context.Context, conference string) error
}

// Principal is who somebody is, as an Authenticator vouches for.
type Principal struct {
	Room string
	Role wire.Role
	Name string // empty: the one that join asks for
	ID   string // for logs
}

// Caller is who asks for a meeting.
type Caller struct {
	Loopback bool   // from this machine, by the real address of the peer
	Bearer   string // the token shown; empty: none
}

// Authenticator says who somebody is, and vouches for it in tokens. Tokens is the first implementation.
type Authenticator interface {
	// Seat returns whom a join token names.
	Seat(ctx context.Context, token string) (Principal, error)
	// Host checks that a host token is for the room.
	Host(ctx context.Context, token, room string) error
	// Opener checks that a token allows its bearer to open meetings.
	Opener(ctx context.Context, token string) error
	// IssueSeat returns a join token and when it ends.
	IssueSeat(ctx context.Context, p Principal) (string, time.Time, error)
	// IssueHost returns a host token for a room.
	IssueHost(ctx context.Context, room string) (string, error)
}

// Policy says what somebody may do. OpenHouse is the first implementation.
type Policy interface {
	// Open says whether a meeting may be opened. authorised: the caller has shown a good token.
	Open(ctx context.Context, c Caller, authorised bool) error
	// Join says whether a seat may be taken.
	Join(ctx context.Context, p Principal) error
	// Moderate says whether others may be muted or removed.
	Moderate(ctx context.Context, p Principal) error
	// Record says whether the meeting may be recorded.
	Record(ctx context.Context, p Principal) error
	// Data says whether the participant may have data channels. One who may not has none, and is told so by the limits.
	Data(ctx context.Context, p Principal) error
}

// Directory knows which rooms there are. Rooms is the first implementation.
type Directory interface {
	// Create returns the id of a new room.
	Create(ctx context.Context) (string, error)
	// Lookup returns the proper spelling of a room's id, or an error with the code not_found or room_closed.
	Lookup(ctx context.Context, room string) (string, error)
	// Close closes a room for good.
	Close(ctx context.Context, room string) error
}

// ICEServers says which STUN and TURN servers a participant should use. A nil one means none.
type ICEServers interface {
	For(ctx context.Context, p Principal) ([]wire.ICEServer, error)
}

// Config is what a Service is made of. Fields left zero get the default in brackets; Media, Auth and Directory must be set.
type Config struct {
	Media     Media
	Auth      Authenticator
	Policy    Policy // OpenHouse
	Directory Directory
	ICE       ICEServers // none
	Recorder  Recorder   // nobody records
	Streams   Streams    // NoStreams

	ResumeWindow time.Duration // how long a seat is kept without a connection [30 s]
	JoinTimeout  time.Duration // how long a connection may take to join or resume [15 s]
	Heartbeat    time.Duration // how often a front door checks its connections [10 s]

	DataBytes         int // of one message on a data channel; 0: Media has no data channels
	Participants      int // in one room [100]
	Viewers           int // of one room, without a seat [500]
	RequestsPerSecond int // sustained, of one session [50]
	RequestBurst      int // at once, of one session [100]
	QueuedEvents      int // that a connection may lag behind; as many again are kept for resume [1024]
	Links             int // connections at once [8192]
	WaitingLinks      int // connections that have not joined yet, at once [512]
}

// queuedBytes bounds the events that are kept for one session, beside their number: an offer of fifty sections has 60 KiB.
const queuedBytes = 4 << 20

func (c *Config) defaults() error {
	if c.Media == nil || c.Auth == nil || c.Directory == nil {
		return errors.New("signaling: Media, Auth and Directory must be set")
	}
	if c.Policy == nil {
		c.Policy = OpenHouse{}
	}
	if c.ICE == nil {
		c.ICE = NoICEServers{}
	}
	if c.Streams == nil {
		c.Streams = NoStreams{}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.ResumeWindow, 30 * time.Second}, {&c.JoinTimeout, 15 * time.Second}, {&c.Heartbeat, 10 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	for _, n := range []struct {
		field *int
		value int
	}{
		{&c.Participants, 100},
		{&c.Viewers, 500},
		{&c.RequestsPerSecond, 50},
		{&c.RequestBurst, 100},
		{&c.QueuedEvents, 1024},
		{&c.Links, 8192},
		{&c.WaitingLinks, 512},
	} {
		if *n.field == 0 {
			*n.field = n.value
		}
	}
	return nil
}

func (c *Config) limits() wire.Limits {
	return wire.Limits{
		FrameBytes: wire.MaxFrameBytes, ChatBytes: wire.MaxChatBytes, NameChars: wire.MaxNameChars,
		RequestsPerSecond: c.RequestsPerSecond, RequestBurst: c.RequestBurst, QueuedEvents: c.QueuedEvents,
		Participants: c.Participants, Publications: wire.MaxPublications, DataBytes: c.DataBytes,
	}
}

func refuse(code wire.Code, message, hint string) *wire.Error {
	return &wire.Error{Code: code, Message: message, Hint: hint}
}

// public returns what a client may see of an error. What is not meant for clients is logged.
func (s *Service) public(err error, doing string) *wire.Error {
	var e *wire.Error
	if errors.As(err, &e) {
		return e
	}
	s.log.Error("signaling: "+doing+" failed", slog.Any("error", err))
	return refuse(wire.Internal, "the server could not "+doing, "try again; if it stays so, tell the operator of this server")
}
