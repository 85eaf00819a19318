package wire

// Offer is an offer to answer with its number. The next one comes only after the answer.
type Offer struct {
	Number int `json:"number"`
	// For setRemoteDescription.
	SDP string `json:"sdp"`
	// What each section is for, in the order of the m-lines.
	Sections []OfferSection `json:"sections"`
}

// OfferSection says what one m-line is for.
type OfferSection struct {
	// The section's mid, as RTCRtpTransceiver.mid.
	MID string `json:"mid"`
	// Set when the client is to send here: what belongs here.
	Source Source `json:"source,omitempty"`
	// Set when the client is to send here: its own track. Left out in slots, where the server sends, and in sections out of use.
	Track string `json:"track,omitempty"`
	// Set in the section for data channels.
	Data bool `json:"data,omitempty"`
}

// Slots says what plays in each of the sections where the server sends: all of them, every time.
type Slots struct {
	Slots []Slot `json:"slots"`
}

// Slot is the binding of one section where the server sends.
type Slot struct {
	// The section's mid.
	MID string `json:"mid"`
	// The track that plays here; "" while the slot is free.
	Track string `json:"track"`
	// Whose track it is; "" while the slot is free.
	Participant string `json:"participant"`
}

// Demand says how many layers of an own track anybody can make use of: those above need not be encoded. All of them are wanted until
// an event says otherwise.
type Demand struct {
	// An own track.
	Track string `json:"track"`
	// How many, from the lowest; at least 1.
	Layers int `json:"layers"`
}

// Quality says how well tracks arrive, whenever that has changed: own ones at the server, those of others at the client. A track of
// which nothing was said is good.
type Quality struct {
	// Tracks that have become better or worse.
	Tracks []TrackQuality `json:"tracks"`
}

// TrackQuality says how well a track arrives.
type TrackQuality struct {
	// Track id.
	Track string `json:"track"`
	Grade Grade  `json:"grade"`
}

// DataClosed says that the server has closed, or not opened, one of the client's data channels, or lost all of them.
type DataClosed struct {
	// The channel's label; "" with the reason moved, which is about all of them.
	Label string `json:"label"`
	// Participant id of the sender of what came in it, the client itself for a channel that it has opened; "" with the reason moved.
	// When a receiver was slow, the sender of the messages is told too, and this is then the receiver.
	From   string     `json:"from"`
	Reason DataReason `json:"reason"`
}

// Media says how the media transport of the client itself fares, as the server sees it.
type Media struct {
	State MediaState `json:"state"`
}

// Joined says that somebody came. It is not sent to the one who joined.
type Joined struct {
	Participant Participant `json:"participant"`
}

// Left says that somebody is gone, with all tracks.
type Left struct {
	// Participant id.
	Participant string     `json:"participant"`
	Reason      LeftReason `json:"reason"`
}

// Updated gives the new state of a participant: connected has changed, or the codec of a track was settled.
type Updated struct {
	Participant Participant `json:"participant"`
}

// TrackAdded says that a participant, perhaps the client itself, publishes a new track.
type TrackAdded struct {
	// Participant id.
	Participant string `json:"participant"`
	Track       Track  `json:"track"`
}

// TrackRemoved says that a track has ended; slots that played it are free.
type TrackRemoved struct {
	// Participant id.
	Participant string `json:"participant"`
	// Track id.
	Track string `json:"track"`
}

// TrackMuted says that a track was muted or unmuted.
type TrackMuted struct {
	// Participant id of the owner.
	Participant string `json:"participant"`
	// Track id.
	Track string `json:"track"`
	Muted bool   `json:"muted"`
	// Participant id of the one who did it: the owner or a host; "" for the server's administrator.
	By string `json:"by"`
}

// TrackLive says that the first packet of a track has arrived at the server.
type TrackLive struct {
	// Participant id of the owner.
	Participant string `json:"participant"`
	// Track id.
	Track string `json:"track"`
}

// Speaker says who speaks.
type Speaker struct {
	// Participant id; "" when nobody speaks.
	Participant string `json:"participant"`
}

// Recording says that the meeting is being recorded from now on, or no more.
type Recording struct {
	Recording RecordingState `json:"recording"`
}

// RecordingState says whether a meeting is being recorded. Clients show it to everybody, for as long as it is active.
type RecordingState struct {
	Active bool `json:"active"`
	// When it began, milliseconds since 1970-01-01 UTC; 0 if it never did.
	Since int64 `json:"since"`
	// Participant id of the host who began it; "" for the server's administrator.
	By string `json:"by"`
	// Why it is not active any more; left out while it is, and if it never was.
	Ended RecordingEnd `json:"ended,omitempty"`
}

// ChatLine is a line of chat, of others or of the client itself.
type ChatLine struct {
	// Id of the line, unique in the room.
	ID string `json:"id"`
	// Participant id of the sender.
	From string `json:"from"`
	// Name of the sender when it was sent.
	Name string `json:"name"`
	Text string `json:"text"`
	// Time of the server, milliseconds since 1970-01-01 UTC.
	At int64 `json:"at"`
}

// Removed says that the client has lost its seat for good; the socket is closed with code 4003 after it.
type Removed struct {
	Reason RemovedReason `json:"reason"`
}

// Closing says that the server stops; the socket is closed with code 1001 after it. Join again, not resume.
type Closing struct {
	// For people.
	Reason string `json:"reason"`
	// When to try again, in milliseconds.
	RetryAfterMs int `json:"retryAfterMs"`
}

// Participant is one member of a room.
type Participant struct {
	ID     string  `json:"id"`
	Name   string  `json:"name"`
	Role   Role    `json:"role"`
	Tracks []Track `json:"tracks"`
	// False while the socket is lost and the seat is kept.
	Connected bool `json:"connected"`
	// Nobody's: the seat stands for the viewers of the broadcast, and is there as long as there are some.
	Broadcast bool `json:"broadcast,omitempty"`
	// Whether the participant has data channels; left out if not.
	Data DataState `json:"data,omitempty"`
}

// Track is one publication.
type Track struct {
	ID     string `json:"id"`
	Source Source `json:"source"`
	Kind   Kind   `json:"kind"`
	// "opus", "vp8", "vp9", "h264" or "av1".
	Codec     string `json:"codec"`
	Muted     bool   `json:"muted"`
	Simulcast bool   `json:"simulcast"`
	// Whether a packet of it has arrived at the server.
	Live bool `json:"live"`
	// What its owner said of it: encrypted end to end.
	Encrypted bool `json:"encrypted,omitempty"`
}

// Role says what a participant may do.
type Role string

// The roles.
const (
	RoleHost        Role = "host"
	RoleParticipant Role = "participant"
)

// Values returns the known roles.
func (Role) Values() []string { return []string{string(RoleHost), string(RoleParticipant)} }

// Kind is the kind of media.
type Kind string

// The kinds of media.
const (
	KindAudio Kind = "audio"
	KindVideo Kind = "video"
)

// Values returns the known kinds.
func (Kind) Values() []string { return []string{string(KindAudio), string(KindVideo)} }

// MediaState is the state of a media transport.
type MediaState string

// The states of a media transport.
const (
	MediaConnecting   MediaState = "connecting"
	MediaConnected    MediaState = "connected"
	MediaDisconnected MediaState = "disconnected"
	MediaFailed       MediaState = "failed"
	MediaClosed       MediaState = "closed"
)

// Values returns the known states.
func (MediaState) Values() []string {
	return []string{string(MediaConnecting), string(MediaConnected), string(MediaDisconnected), string(MediaFailed), string(MediaClosed)}
}

// Grade says how well something arrives.
type Grade string

// The grades.
const (
	GradeGood Grade = "good"
	GradeFair Grade = "fair" // one notices
	GradePoor Grade = "poor" // one minds
)

// Values returns the known grades.
func (Grade) Values() []string {
	return []string{string(GradeGood), string(GradeFair), string(GradePoor)}
}

// DataState says what becomes of what a participant sends on data channels.
type DataState string

// The states of data.
const (
	DataOpen  DataState = "open"
	DataMuted DataState = "muted" // by a host: nothing of it is passed on
)

// Values returns the known states.
func (DataState) Values() []string { return []string{string(DataOpen), string(DataMuted)} }

// DataReason says why the server has closed a data channel.
type DataReason string

// The reasons to close a data channel.
const (
	DataSlow     DataReason = "slow"      // what came in it was not taken in time
	DataTooMany  DataReason = "too-many"  // the client has opened as many as it may
	DataRefused  DataReason = "refused"   // its label or protocol is too long, or no text
	DataTooLarge DataReason = "too-large" // a message in it was larger than it may be
	DataMoved    DataReason = "moved"     // another server has the meeting now; join again for new channels
)

// Values returns the known reasons.
func (DataReason) Values() []string {
	return []string{string(DataSlow), string(DataTooMany), string(DataRefused), string(DataTooLarge), string(DataMoved)}
}

// LeftReason says why somebody is gone.
type LeftReason string

// The reasons to be gone.
const (
	LeftLeave   LeftReason = "leave"   // left of own accord, by request or by closing its media
	LeftExpired LeftReason = "expired" // the socket was lost and not resumed in time
	LeftRemoved LeftReason = "removed" // removed by a host or an administrator
	LeftError   LeftReason = "error"   // ended by the server because of a fault
)

// Values returns the known reasons.
func (LeftReason) Values() []string {
	return []string{string(LeftLeave), string(LeftExpired), string(LeftRemoved), string(LeftError)}
}

// RemovedReason says why the client has lost its seat.
type RemovedReason string

// The reasons to lose the seat.
const (
	RemovedByHost  RemovedReason = "host"
	RemovedByAdmin RemovedReason = "admin"
	RemovedClosed  RemovedReason = "room_closed"
)

// Values returns the known reasons.
func (RemovedReason) Values() []string {
	return []string{string(RemovedByHost), string(RemovedByAdmin), string(RemovedClosed)}
}

// RecordingEnd says why a recording has ended.
type RecordingEnd string

// The reasons for the end of a recording.
const (
	RecordingStopped RecordingEnd = "stopped" // by a host, or the server's administrator
	RecordingFull    RecordingEnd = "full"    // the server has no room for more
	RecordingFailed  RecordingEnd = "failed"  // the server cannot write it, or has lost the meeting to another one
)

// Values returns the known reasons.
func (RecordingEnd) Values() []string {
	return []string{string(RecordingStopped), string(RecordingFull), string(RecordingFailed)}
}

// Kind implements Event.
func (*Offer) Kind() string { return "offer" }

// Kind implements Event.
func (*Slots) Kind() string { return "slots" }

// Kind implements Event.
func (*Demand) Kind() string { return "demand" }

// Kind implements Event.
func (*Quality) Kind() string { return "quality" }

// Kind implements Event.
func (*DataClosed) Kind() string { return "dataClosed" }

// Kind implements Event.
func (*Media) Kind() string { return "media" }

// Kind implements Event.
func (*Joined) Kind() string { return "joined" }

// Kind implements Event.
func (*Left) Kind() string { return "left" }

// Kind implements Event.
func (*Updated) Kind() string { return "updated" }

// Kind implements Event.
func (*TrackAdded) Kind() string { return "trackAdded" }

// Kind implements Event.
func (*TrackRemoved) Kind() string { return "trackRemoved" }

// Kind implements Event.
func (*TrackMuted) Kind() string { return "trackMuted" }

// Kind implements Event.
func (*TrackLive) Kind() string { return "trackLive" }

// Kind implements Event.
func (*Speaker) Kind() string { return "speaker" }

// Kind implements Event.
func (*Recording) Kind() string { return "recording" }

// Kind implements Event.
func (*ChatLine) Kind() string { return "chat" }

// Kind implements Event.
func (*Removed) Kind() string { return "removed" }

// Kind implements Event.
func (*Closing) Kind() string { return "closing" }

func (*Offer) event()        {}
func (*Slots) event()        {}
func (*Demand) event()       {}
func (*Quality) event()      {}
func (*DataClosed) event()   {}
func (*Media) event()        {}
func (*Joined) event()       {}
func (*Left) event()         {}
func (*Updated) event()      {}
func (*TrackAdded) event()   {}
func (*TrackRemoved) event() {}
func (*TrackMuted) event()   {}
func (*TrackLive) event()    {}
func (*Speaker) event()      {}
func (*Recording) event()    {}
func (*ChatLine) event()     {}
func (*Removed) event()      {}
func (*Closing) event()      {}
