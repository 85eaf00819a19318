package admin

import (
	"context"
	"errors"
	"time"
)

// ErrNotFound is what implementations wrap when a room or a participant is
// not there.
var ErrNotFound = errors.New("not found")

// Conference is a meeting that goes on.
type Conference struct {
	Room         string        `json:"room" doc:"The id in the link of the meeting." example:"k3j5d-aaq2w-m7x4c-pz6tn-bbhe2a"`
	Participants []Participant `json:"participants" nullable:"false"`
}

// Participant is somebody in a meeting.
type Participant struct {
	ID        string    `json:"id"`
	Name      string    `json:"name" doc:"As its owner gave it; nobody has checked it."`
	Role      string    `json:"role" enum:"host,participant"`
	Connected bool      `json:"connected" doc:"False while the seat waits for its owner to come back."`
	Client    string    `json:"client" doc:"The software, as it calls itself."`
	Remote    string    `json:"remote" doc:"Address of the newest connection."`
	Joined    time.Time `json:"joined"`
	Tracks    []Track   `json:"tracks" nullable:"false"`
	Media     Media     `json:"media"`
}

// Media is how a participant's one media session fares.
type Media struct {
	State            string  `json:"state" enum:"none,connecting,connected,disconnected,failed,closed"`
	Cipher           string  `json:"cipher" doc:"SRTP protection profile; empty before the handshake."`
	RoundTripSeconds float64 `json:"roundTripSeconds" doc:"0 if it was not measured yet."`
	Slots            []Slot  `json:"slots" nullable:"false" doc:"What the participant receives."`
}

// Slot is one stream to a participant.
type Slot struct {
	MID     string `json:"mid"`
	Track   string `json:"track"`
	Packets uint32 `json:"packets"`
	Lost    int32  `json:"lost" doc:"As the receiver reports it; negative when duplicates came."`
	Sends   *Sent  `json:"sends,omitempty" doc:"Of a picture that is sent: which one."`
}

// Sent says which of a picture's layers are sent.
type Sent struct {
	Stream   int `json:"stream" doc:"Place in the track's layers."`
	Spatial  int `json:"spatial" doc:"The highest spatial layer of that stream, from 0."`
	Temporal int `json:"temporal" doc:"The highest temporal layer, likewise."`
}

// Track is something a participant publishes.
type Track struct {
	ID     string `json:"id"`
	Source string `json:"source" enum:"microphone,camera,screen,screen-audio"`
	Codec  string `json:"codec"`
	Muted  bool   `json:"muted"`

	Live      bool    `json:"live" doc:"A packet has come."`
	Receivers int     `json:"receivers"`
	Packets   uint64  `json:"packets" doc:"Received from the participant."`
	Bytes     uint64  `json:"bytes"`
	Forwarded uint64  `json:"forwarded" doc:"Packets sent on, over all receivers."`
	Layers    []Layer `json:"layers" nullable:"false" doc:"Simulcast layers, the lowest resolution first."`
}

// Layer is one stream of a track.
type Layer struct {
	RID      string `json:"rid"`
	Packets  uint64 `json:"packets"`
	Bytes    uint64 `json:"bytes"`
	Spatial  int    `json:"spatial" doc:"Spatial layers within the stream, 1 without any; 0 for sound, and while nothing is known."`
	Temporal int    `json:"temporal" doc:"Temporal layers, likewise."`
	Width    int    `json:"width" doc:"Of the largest pictures; 0 where no key frame told it."`
	Height   int    `json:"height"`
}

// Meeting is a room that somebody may now join.
type Meeting struct {
	Room      string `json:"room"`
	URL       string `json:"url" doc:"The link to send to people."`
	HostToken string `json:"hostToken" doc:"Makes its holder a host of the room; keep it secret."`
}

// Grant says what a join token allows.
type Grant struct {
	Name string // empty: the one that its holder gives
	Role string // host or participant
}

// OpenerGrant says what a token for opening meetings allows.
type OpenerGrant struct {
	Lifetime time.Duration
}

// StreamGrant says what a token for a stream allows.
type StreamGrant struct {
	Watch    bool   // or else publish
	Name     string // of who publishes; empty: the one that its holder gives
	Lifetime time.Duration
}

// IssuedStream is a token for a stream, and where to use it.
type IssuedStream struct {
	Issued
	URL string `json:"url" doc:"The WHIP or WHEP endpoint, which takes the token as a bearer."`
}

// Issued is a token that has been made.
type Issued struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// None shows nothing and makes nothing: a node without meetings.
type None struct{}

// Conferences returns none.
func (None) Conferences(context.Context) ([]Conference, error) { return nil, nil }

// Conference finds none.
func (None) Conference(context.Context, string) (Conference, error) {
	return Conference{}, ErrNotFound
}

// CloseConference finds none.
func (None) CloseConference(context.Context, string) error { return ErrNotFound }

// RemoveParticipant finds none.
func (None) RemoveParticipant(context.Context, string, string) error { return ErrNotFound }

var errNoMeetings = errors.New("admin: this node holds no meetings")

// OpenMeeting refuses.
func (None) OpenMeeting(context.Context) (Meeting, error) { return Meeting{}, errNoMeetings }

// JoinToken refuses.
func (None) JoinToken(context.Context, string, Grant) (Issued, error) {
	return Issued{}, errNoMeetings
}

// OpenerToken refuses.
func (None) OpenerToken(context.Context, OpenerGrant) (Issued, error) {
	return Issued{}, errNoMeetings
}

// StreamToken refuses.
func (None) StreamToken(context.Context, string, StreamGrant) (IssuedStream, error) {
	return IssuedStream{}, errNoMeetings
}
