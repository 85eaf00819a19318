package signaling

import (
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// room is a live meeting: it exists while somebody has, or is taking, a seat.
type room struct {
	id    string
	log   *slog.Logger
	users int // sessions that hold it; guarded by the Service's lock

	// mu guards everything below and, of every member, the fields that Session names. Nothing outside this package is called
	// with it held; the locks of links may be taken under it.
	mu        sync.Mutex
	members   map[sfu.ParticipantID]*Session // with those that are still joining
	seated    []*Session                     // in the order of joining
	owners    map[string]*Session            // by their tracks, of those who are seated
	closed    bool
	speaker   string
	stage     string     // who has spoken last
	cast      *broadcast // nil: nobody watches
	unwatched bool       // nor may anybody
	// What the media side last said of the recording.
	recording wire.RecordingState
	lines     int64       // of chat
	lingers   *time.Timer // until reports are sent; nil: there are none
}

// In a room of more than crowd, reports to everybody wait for others, as long as reportDelay: what a hundred people's coming costs
// each of the hundred is then one message.
const (
	crowd       = 16
	reportDelay = 100 * time.Millisecond
)

// member returns a seated participant, nil if there is none.
func (r *room) member(participant string) *Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.find(participant)
}

// find is member with the lock held.
func (r *room) find(participant string) *Session {
	if m := r.members[sfu.ParticipantID(participant)]; m != nil && m.seated && !m.ended {
		return m
	}
	return nil
}

// close lets nobody in any more and returns who is here.
func (r *room) close() []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	members := make([]*Session, 0, len(r.members))
	for _, m := range r.members {
		members = append(members, m)
	}
	return members
}

// broadcast tells everybody, at once. The lock is held.
func (r *room) broadcast(e wire.Event) {
	body, ok := r.encode(e)
	if !ok {
		return
	}
	for _, m := range r.seated {
		m.add(body, true)
	}
}

// report tells everybody, but one perhaps, of who is in the room and with what. In a large one it takes its time. The lock is held.
func (r *room) report(but *Session, e wire.Event) {
	body, ok := r.encode(e)
	if !ok {
		return
	}
	now := len(r.seated) <= crowd
	for _, m := range r.seated {
		if m != but {
			m.add(body, now)
		}
	}
	if !now && r.lingers == nil {
		r.lingers = time.AfterFunc(reportDelay, r.stir)
	}
}

// stir has the reports sent.
func (r *room) stir() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lingers = nil
	for _, m := range r.seated {
		if m.link != nil {
			m.link.stir()
		}
	}
}

func (r *room) encode(e wire.Event) (wire.Body, bool) {
	body, err := wire.EncodeEvent(e)
	if err != nil { // our own types always encode; were one not to, one lost event must not take the room down
		r.log.Error("signaling: encode an event", slog.Any("error", err))
	}
	return body, err == nil
}

// roster describes everybody. The lock is held.
func (r *room) roster() []wire.Participant {
	list := make([]wire.Participant, 0, len(r.seated))
	for _, m := range r.seated {
		list = append(list, m.describe())
	}
	return list
}

// track finds a track and its owner. The lock is held.
func (r *room) track(id string) (*Session, *wire.Track) {
	if m := r.owners[id]; m != nil {
		return m, m.track(id)
	}
	return nil, nil
}

// nextLine returns the id of the next line of chat. The lock is held.
func (r *room) nextLine() string {
	r.lines++
	return "c" + strconv.FormatInt(r.lines, 10)
}

// unseat takes a member out and tells the others why. The lock is held.
func (r *room) unseat(m *Session, reason wire.LeftReason) {
	delete(r.members, m.participant)
	r.seated = slices.DeleteFunc(r.seated, func(s *Session) bool { return s == m })
	if !m.seated {
		return
	}
	for _, t := range m.tracks {
		delete(r.owners, t.ID)
	}
	if len(r.seated) == 0 && r.lingers != nil {
		r.lingers.Stop()
		r.lingers = nil
	}
	r.report(nil, &wire.Left{Participant: string(m.participant), Reason: reason})
	if r.speaker == string(m.participant) {
		r.speaker = ""
		r.broadcast(&wire.Speaker{})
	}
}

func (r *room) info() RoomInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	info := RoomInfo{ID: r.id}
	for _, m := range r.seated {
		info.Participants = append(info.Participants, ParticipantInfo{m.describe(), m.client, m.remote, m.since})
	}
	return info
}
