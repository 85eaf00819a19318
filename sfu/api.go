package sfu

import (
	"net/netip"
	"strconv"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/data"
	"github.com/sotto-edge/sotto/sfu/quality"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// Kind says whether a track or a section carries sound or pictures. Its String is the media name of SDP (RFC 8866 §5.14).
type Kind = rtp.Kind

// The kinds of media.
const (
	Audio = rtp.KindAudio
	Video = rtp.KindVideo
)

// Source says what a publication shows. A participant has at most one track of each source.
type Source string

// The sources a participant can publish.
const (
	Microphone  Source = "microphone"
	Camera      Source = "camera"
	Screen      Source = "screen"
	ScreenAudio Source = "screen-audio"
)

// Kind returns the kind of media that the source produces, 0 for an unknown source.
func (s Source) Kind() Kind {
	switch s {
	case Microphone, ScreenAudio:
		return Audio
	case Camera, Screen:
		return Video
	}
	return 0
}

// TrackID names one publication within a conference. It is never used again after the publication ends.
type TrackID string

// ParticipantID names one participant within a conference.
type ParticipantID string

// JoinOptions say who joins and what that participant publishes at once, so that the first offer has room for it.
type JoinOptions struct {
	Participant ParticipantID
	Label       string // what recordings call the participant; the node itself makes no use of it
	Publish     []Publish
	Data        bool // wants data channels, if the node has them: the first offer has a section for them
}

// Publish asks for a new publication.
type Publish struct {
	Source    Source
	Codec     string // preferred codec in lower case ("vp8", "av1"); empty leaves the choice to the conference
	Simulcast bool   // several resolutions of one picture, one RID each
	Muted     bool   // the publication starts muted
	Encrypted bool   // end to end: no format is offered that the node has to open, and what is recorded is kept as it came
}

// View says how a participant shows a track of somebody else: what is sent of it depends on that and on what the link carries.
type View struct {
	Track         TrackID
	Width, Height int  // in pixels of the screen; 0: it is not to be seen, and its picture is not sent
	Pinned        bool // it is to be seen well before others are
}

// EventType says which fields of an Event are set.
type EventType uint8

// The events of a conference.
const (
	EventOffer     EventType = iota + 1 // Offer: a numbered offer for Participant to answer; none for clients that offer
	EventSlots                          // Slots: every binding of Participant's endpoint
	EventState                          // State: the transport of Participant changed
	EventSpeaker                        // Speaker: for the whole conference; Participant is empty
	EventTrackLive                      // Track: the first packet of Participant's publication has arrived
	EventQuality                        // Qualities: what has become better or worse for Participant
	EventDemand                         // Track, Layers: how many layers of Participant's publication, from the lowest, are of use to anybody
	EventRecording                      // Recording: the conference is recorded from now on, or no more; Participant is empty
	EventData                           // Data: a data channel of Participant was closed by the server
)

// Event is something that happened in a conference. Events of one conference come in order.
type Event struct {
	Conference  string
	Participant ParticipantID
	Type        EventType
	Offer       *Offer
	Slots       []Slot
	State       State
	Track       TrackID
	Speaker     ParticipantID // empty: nobody speaks
	Layers      int           // at least 1
	Qualities   []Quality
	Recording   *Recording
	Data        *DataClosed
}

// DataClosed says that the server has closed a data channel, or all of them.
type DataClosed = data.Closed

// Quality says how well a track arrives: one of the participant's own at the node, one of somebody else's at the participant. A track
// of which nothing was said is good.
type Quality struct {
	Track TrackID
	Grade Grade
}

// Grade says what people would think of it.
type Grade = quality.Grade

// The grades.
const (
	Good = quality.Good
	Fair = quality.Fair
	Poor = quality.Poor
)

// State is the state of an endpoint's transport.
type State = transport.State

// The states of a transport. A failed or closed one never recovers.
const (
	StateConnecting   = transport.StateConnecting
	StateConnected    = transport.StateConnected
	StateDisconnected = transport.StateDisconnected
	StateFailed       = transport.StateFailed
	StateClosed       = transport.StateClosed // by the client's close_notify, or by Close
)

// Slot is the binding of a sending section to the track that plays in it now.
type Slot struct {
	MID         string
	Track       TrackID       // empty: the slot is free
	Participant ParticipantID // whose track it is
}

// Direction is the direction of a section, as its owner sees it (RFC 8866 §6.7). In an Offer the owner is the server, in an
// Answer the client.
type Direction uint8

// The directions of a section. One that would go both ways is only in offers of clients, and answered one way.
const (
	Inactive Direction = iota
	SendOnly
	RecvOnly
	SendRecv
)

// String returns the attribute of SDP.
func (d Direction) String() string {
	switch d {
	case Inactive:
		return "inactive"
	case SendOnly:
		return "sendonly"
	case RecvOnly:
		return "recvonly"
	case SendRecv:
		return "sendrecv"
	}
	return "direction(" + strconv.Itoa(int(d)) + ")"
}

// Offer is what the server offers to one endpoint. Numbers grow by one; one offer is outstanding at a time.
type Offer struct {
	Number      int
	ICE         ICEParams
	Fingerprint Fingerprint
	Sections    []Section // in the order of their m-lines; one that was made stays for the life of the endpoint
}

// ICEParams are one side's ICE credentials and candidates (RFC 8839 §5).
type ICEParams struct {
	Ufrag      string
	Pwd        string
	Candidates []Candidate
}

// Candidate is a host candidate of component 1 (RFC 8839 §5.1).
type Candidate struct {
	Addr       netip.AddrPort
	Priority   uint32
	Foundation string
	TCP        bool // passive (RFC 6544 §4.5); else it is of UDP
}

// Fingerprint is the hash of a DTLS certificate (RFC 8122 §5).
type Fingerprint struct {
	Algorithm string // lower case: "sha-256"
	Value     string // upper-case hexadecimal octets with colons between
}

// Section is one m-line of an offer.
type Section struct {
	MID        string
	Kind       Kind
	Direction  Direction // as the server sees it
	Source     Source    // RecvOnly: what belongs here
	Track      TrackID   // RecvOnly: the publication that this section is for
	Codecs     []Codec   // in the order of preference
	Extensions []Extension
	RIDs       []string // RecvOnly with simulcast: from the lowest resolution to the highest
	SSRC       uint32   // SendOnly
	RTXSSRC    uint32   // SendOnly; 0: no retransmission stream
	CNAME      string   // SendOnly
	StreamID   string   // SendOnly: the MediaStream that the section belongs to
	Rejected   bool     // the section is not in use (port 0)
	Data       int      // not 0: the section is for data channels (RFC 8841), which take messages of so many bytes; it has no Kind
}

// Codec is one payload type of a section.
type Codec struct {
	PayloadType uint8
	Name        string // encoding name as in SDP: "opus", "VP8"
	ClockRate   int
	Channels    int      // 0 or 1: not written
	FMTP        string   // format parameters without the payload type; empty: none
	RTX         uint8    // payload type of the retransmission format (RFC 4588); 0: none
	Feedback    []string // as in rtcp-fb (RFC 4585 §4.2)
}

// Extension is one RTP header extension (RFC 8285 §5).
type Extension struct {
	ID  uint8
	URI string
}

// Answer is the client's answer to an offer.
type Answer struct {
	ICE         ICEParams
	Fingerprint Fingerprint
	SetupActive bool // the client is the DTLS client (RFC 5763 §5)
	Sections    []AnswerSection
}

// AnswerSection is one m-line of an answer.
type AnswerSection struct {
	MID        string
	Rejected   bool
	Direction  Direction // as the client sees it
	Codecs     []Codec
	Extensions []Extension
	RIDs       []string // that the client will send, in its order
	SSRCs      []uint32 // of media, in the order of the answer, retransmission streams left out
	RTXSSRC    uint32   // retransmission stream of the first of SSRCs by a=ssrc-group:FID; 0: none
	Data       bool     // the section is for data channels …
	Largest    int      // … whose messages may have so many bytes; 0: any
}
