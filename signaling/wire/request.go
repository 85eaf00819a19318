package wire

// Join takes a seat in the room that the token names. It is the first request of a socket, as Resume is.
type Join struct {
	// Protocol version of the client: 1.
	Version int `json:"version"`
	// Join token from POST /api/v1/meetings/{room}/token.
	Token string `json:"token" limit:"2048 bytes"`
	// Name shown to the others; not empty, no control characters.
	Name string `json:"name" limit:"64 characters"`
	// What is published at once, so that the first offer has room for it. The sections of the first offer are in this order.
	Publish []Publication `json:"publish,omitempty" limit:"8 items"`
	// Wants data channels: the first offer has a section for them, if the server has any and lets the participant (docs/data.md).
	Data bool `json:"data,omitempty"`
	// Software of the client, such as "web/1"; goes to the server's log only.
	Client string `json:"client,omitempty" limit:"64 characters"`
}

// Resume takes the seat of an earlier socket back, within resumeWindowMs of its loss. It also takes the seat from a socket that
// still lives, which is then closed with code 4001.
type Resume struct {
	// Protocol version of the client: 1.
	Version int `json:"version"`
	// From join.ok.
	Session string `json:"session" limit:"64 bytes"`
	// From join.ok.
	ResumeToken string `json:"resumeToken" limit:"128 bytes"`
	// The seq of the last event that the client has seen; 0 if none.
	LastSeq int64 `json:"lastSeq"`
}

// Publish announces new tracks. An offer with a section for each follows.
type Publish struct {
	// What to publish, one to eight.
	Publications []Publication `json:"publications" limit:"8 items"`
}

// Publication is one track that a client wants to send.
type Publication struct {
	Source Source `json:"source"`
	// Preferred codec: "opus" for sound; "vp8", "vp9", "h264" or "av1" for pictures. Left out, the server chooses.
	Codec string `json:"codec,omitempty" limit:"16 characters"`
	// Send three resolutions at once; pictures only.
	Simulcast bool `json:"simulcast,omitempty"`
	// Start muted.
	Muted bool `json:"muted,omitempty"`
	// Encrypted end to end: sound is then not asked for with redundancy, which the server would have to take off for some, and
	// recordings keep it as it came.
	Encrypted bool `json:"encrypted,omitempty"`
}

// Unpublish ends own tracks. Their sections become free for later publications.
type Unpublish struct {
	// Own tracks.
	Tracks []string `json:"tracks" limit:"64 items"`
}

// Subscribe asks for tracks of others. Tracks already subscribed stay as they are. A slots event says where they play.
type Subscribe struct {
	// Tracks of others.
	Tracks []string `json:"tracks" limit:"64 items"`
}

// Unsubscribe gives tracks of others up. Unknown tracks are ignored.
type Unsubscribe struct {
	// Tracks of others.
	Tracks []string `json:"tracks" limit:"64 items"`
}

// View says how the client shows tracks of others, so that no more of them is sent than can be seen. Tracks that are not named stay as
// they were; one that was never named counts as shown large. Unknown tracks are ignored.
type View struct {
	// Tracks of others that are shown differently from before.
	Views []TrackView `json:"views" limit:"64 items"`
	// Most pictures wanted at a time; left out, as before. The server has a bound of its own, and chooses.
	Videos int `json:"videos,omitempty"`
}

// Data asks for data channels later than at the join: the next offer has a section for them (docs/data.md). Who has some keeps them.
type Data struct{}

// TrackView says how a track is shown.
type TrackView struct {
	// A track of somebody else.
	Track string `json:"track"`
	// Width in pixels of the screen, at most 16384; 0: it cannot be seen, and its pictures are not sent.
	Width int `json:"width"`
	// Height in pixels of the screen, at most 16384.
	Height int `json:"height"`
	// It is to be seen well before others are.
	Pinned bool `json:"pinned,omitempty"`
}

// Answer answers an offer. One offer is outstanding at a time, and the client never offers by itself.
type Answer struct {
	// The number of the offer.
	Number int `json:"number"`
	// The answer that setLocalDescription took; candidates need not be in it.
	SDP string `json:"sdp" limit:"65536 bytes"`
}

// Mute mutes or unmutes an own track. The server stops forwarding at once; no offer is needed.
type Mute struct {
	// An own track.
	Track string `json:"track" limit:"64 bytes"`
	// The state wanted.
	Muted bool `json:"muted"`
}

// Moderate is for hosts: it mutes another participant's track, until its owner unmutes it, lets nothing more of a participant's data
// through, or removes a participant.
type Moderate struct {
	Action Action `json:"action"`
	// Whom it is about.
	Participant string `json:"participant" limit:"64 bytes"`
	// Action mute: the track to mute; left out, every audio track of the participant.
	Track string `json:"track,omitempty" limit:"64 bytes"`
}

// RecordStart is for hosts: the server records the meeting from now on, and tells everybody by the event recording.
type RecordStart struct{}

// RecordStop is for hosts: it ends the recording.
type RecordStop struct{}

// Chat sends a line of text to everybody in the room.
type Chat struct {
	// The text, not empty.
	Text string `json:"text" limit:"2048 bytes"`
}

// Restart says that the client's network has changed. An offer with new ICE credentials follows.
type Restart struct{}

// Leave gives the seat up at once. The server closes the socket with code 1000 after its reply.
type Leave struct{}

// Ping asks whether the server is still there; browsers cannot send WebSocket pings.
type Ping struct {
	// The seq of the last event that the client has seen: the server may forget everything up to it.
	LastSeq int64 `json:"lastSeq,omitempty"`
}

// Source says what a track shows.
type Source string

// The sources.
const (
	Microphone  Source = "microphone"
	Camera      Source = "camera"
	Screen      Source = "screen"
	ScreenAudio Source = "screen-audio"
)

// Values returns the known sources.
func (Source) Values() []string {
	return []string{string(Microphone), string(Camera), string(Screen), string(ScreenAudio)}
}

// Action says what a host does.
type Action string

// The actions of a host.
const (
	ActionMute       Action = "mute"
	ActionRemove     Action = "remove"
	ActionMuteData   Action = "mute-data"
	ActionUnmuteData Action = "unmute-data"
)

// Values returns the known actions.
func (Action) Values() []string {
	return []string{string(ActionMute), string(ActionRemove), string(ActionMuteData), string(ActionUnmuteData)}
}

// Kind implements Request.
func (*Join) Kind() string { return "join" }

// Kind implements Request.
func (*Resume) Kind() string { return "resume" }

// Kind implements Request.
func (*Publish) Kind() string { return "publish" }

// Kind implements Request.
func (*Unpublish) Kind() string { return "unpublish" }

// Kind implements Request.
func (*Subscribe) Kind() string { return "subscribe" }

// Kind implements Request.
func (*Unsubscribe) Kind() string { return "unsubscribe" }

// Kind implements Request.
func (*View) Kind() string { return "view" }

// Kind implements Request.
func (*Data) Kind() string { return "data" }

// Kind implements Request.
func (*Answer) Kind() string { return "answer" }

// Kind implements Request.
func (*Mute) Kind() string { return "mute" }

// Kind implements Request.
func (*Moderate) Kind() string { return "moderate" }

// Kind implements Request.
func (*RecordStart) Kind() string { return "record.start" }

// Kind implements Request.
func (*RecordStop) Kind() string { return "record.stop" }

// Kind implements Request.
func (*Chat) Kind() string { return "chat" }

// Kind implements Request.
func (*Restart) Kind() string { return "restart" }

// Kind implements Request.
func (*Leave) Kind() string { return "leave" }

// Kind implements Request.
func (*Ping) Kind() string { return "ping" }
