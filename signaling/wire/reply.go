package wire

// JoinOK gives the client its seat. Events follow from seq 1 on, the first offer among them.
type JoinOK struct {
	// Protocol version of the server.
	Version int `json:"version"`
	// Names the session in resume; not secret.
	Session string `json:"session"`
	// Secret that resume needs.
	ResumeToken string `json:"resumeToken"`
	// The client's own participant id.
	Participant string `json:"participant"`
	Role        Role   `json:"role"`
	// The room's id.
	Room string `json:"room"`
	// Everybody in the room, the client itself included.
	Roster []Participant `json:"roster"`
	Limits Limits        `json:"limits"`
	// For RTCPeerConnection.
	ICEServers []ICEServer `json:"iceServers"`
	// How long the seat is kept after the socket is lost, in milliseconds.
	ResumeWindowMs int `json:"resumeWindowMs"`
	// The server pings the socket this often, in milliseconds, and gives it up when the pong is missing for as long.
	HeartbeatMs int `json:"heartbeatMs"`
	// Own tracks, in the order of the publish field of the request.
	Tracks []OwnTrack `json:"tracks"`
	// Whether the meeting is being recorded.
	Recording RecordingState `json:"recording"`
	// Whether this server records meetings at all.
	CanRecord bool `json:"canRecord"`
}

// ResumeOK gives the client its seat back. Every event after the request's lastSeq follows.
type ResumeOK struct {
	Session string `json:"session"`
	// The newest event's seq; when the client has seen it, it has missed nothing.
	Seq int64 `json:"seq"`
}

// PublishOK names the new tracks.
type PublishOK struct {
	// In the order of the request.
	Tracks []OwnTrack `json:"tracks"`
}

// OwnTrack says which id a publication got.
type OwnTrack struct {
	Source Source `json:"source"`
	// Track id, unique in the room for ever.
	Track string `json:"track"`
}

// UnpublishOK confirms.
type UnpublishOK struct{}

// SubscribeOK confirms.
type SubscribeOK struct {
	// Tracks of the request that are not, or no longer, in the room; the others are subscribed.
	Missing []string `json:"missing"`
}

// UnsubscribeOK confirms.
type UnsubscribeOK struct{}

// ViewOK confirms.
type ViewOK struct{}

// DataOK confirms: an offer with a section for data channels follows, if there was none.
type DataOK struct{}

// AnswerOK confirms.
type AnswerOK struct{}

// MuteOK confirms.
type MuteOK struct{}

// ModerateOK confirms.
type ModerateOK struct{}

// RecordStartOK says that the recording has begun. The event recording goes to everybody.
type RecordStartOK struct{}

// RecordStopOK says that the recording is complete, and on the server's disk.
type RecordStopOK struct{}

// ChatOK says that the line was sent. The chat event goes to the sender too, under the same id.
type ChatOK struct {
	// Id of the line, unique in the room.
	ID string `json:"id"`
	// Time of the server, milliseconds since 1970-01-01 UTC.
	At int64 `json:"at"`
}

// RestartOK confirms; the offer follows.
type RestartOK struct{}

// LeaveOK confirms; the socket is closed after it.
type LeaveOK struct{}

// PingOK answers.
type PingOK struct{}

// Failure says that a request was refused and nothing was changed by it. A frame whose id cannot be read is answered with re 0.
type Failure struct {
	Error Error `json:"error"`
}

// Limits are what this server allows a session.
type Limits struct {
	// Of one frame from the client.
	FrameBytes int `json:"frameBytes"`
	// Of one line of chat.
	ChatBytes int `json:"chatBytes"`
	// Of a name, in Unicode code points.
	NameChars int `json:"nameChars"`
	// Requests per second that are sustained.
	RequestsPerSecond int `json:"requestsPerSecond"`
	// Requests that may come at once.
	RequestBurst int `json:"requestBurst"`
	// Events that a connection may lag behind; twice as many are kept for resume.
	QueuedEvents int `json:"queuedEvents"`
	// Participants in one room.
	Participants int `json:"participants"`
	// Tracks of one participant.
	Publications int `json:"publications"`
	// Of one message on a data channel; 0: the client may have none.
	DataBytes int `json:"dataBytes"`
}

// ICEServer is an RTCIceServer of WebRTC.
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// Kind implements Reply.
func (*JoinOK) Kind() string { return "join.ok" }

// Kind implements Reply.
func (*ResumeOK) Kind() string { return "resume.ok" }

// Kind implements Reply.
func (*PublishOK) Kind() string { return "publish.ok" }

// Kind implements Reply.
func (*UnpublishOK) Kind() string { return "unpublish.ok" }

// Kind implements Reply.
func (*SubscribeOK) Kind() string { return "subscribe.ok" }

// Kind implements Reply.
func (*UnsubscribeOK) Kind() string { return "unsubscribe.ok" }

// Kind implements Reply.
func (*ViewOK) Kind() string { return "view.ok" }

// Kind implements Reply.
func (*DataOK) Kind() string { return "data.ok" }

// Kind implements Reply.
func (*AnswerOK) Kind() string { return "answer.ok" }

// Kind implements Reply.
func (*MuteOK) Kind() string { return "mute.ok" }

// Kind implements Reply.
func (*ModerateOK) Kind() string { return "moderate.ok" }

// Kind implements Reply.
func (*RecordStartOK) Kind() string { return "record.start.ok" }

// Kind implements Reply.
func (*RecordStopOK) Kind() string { return "record.stop.ok" }

// Kind implements Reply.
func (*ChatOK) Kind() string { return "chat.ok" }

// Kind implements Reply.
func (*RestartOK) Kind() string { return "restart.ok" }

// Kind implements Reply.
func (*LeaveOK) Kind() string { return "leave.ok" }

// Kind implements Reply.
func (*PingOK) Kind() string { return "ping.ok" }

// Kind implements Reply.
func (*Failure) Kind() string { return "error" }

func (*JoinOK) reply()        {}
func (*ResumeOK) reply()      {}
func (*PublishOK) reply()     {}
func (*UnpublishOK) reply()   {}
func (*SubscribeOK) reply()   {}
func (*UnsubscribeOK) reply() {}
func (*ViewOK) reply()        {}
func (*DataOK) reply()        {}
func (*AnswerOK) reply()      {}
func (*MuteOK) reply()        {}
func (*ModerateOK) reply()    {}
func (*RecordStartOK) reply() {}
func (*RecordStopOK) reply()  {}
func (*ChatOK) reply()        {}
func (*RestartOK) reply()     {}
func (*LeaveOK) reply()       {}
func (*PingOK) reply()        {}
func (*Failure) reply()       {}
