package signaling

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// Service is the signaling of one node: all its rooms, sessions and connections.
type Service struct {
	cfg      Config
	log      *slog.Logger
	counters counters
	viewers  atomic.Int64 // of all rooms, now

	// mu guards the maps. It is never held together with a room's lock.
	mu           sync.Mutex
	rooms        map[string]*room
	sessions     map[string]*Session
	links        map[*Link]struct{}
	waiting      int // of links, those not joined
	stopping     bool
	retryAfterMs int
	idle         chan struct{} // closed when stopping and the last link is gone

	closeOnce sync.Once
}

type counters struct{ joins, resumes, expired, slow, violations, ingests, views atomic.Int64 }

// Stats are figures for operators. The first three are of now, the others count from the start.
type Stats struct {
	Rooms, Sessions, Links int
	Joins                  int64 // seats taken
	Resumes                int64 // seats taken back
	Expired                int64 // seats lost because nobody came back
	Slow                   int64 // connections cut for lagging behind
	Violations             int64 // connections cut for too many refused requests
	Viewers                int   // of broadcasts, now
	Ingests                int64 // streams that took a seat
	Views                  int64 // viewers that came
}

// New returns a Service. The caller closes it.
func New(cfg Config, log *slog.Logger) (*Service, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Service{
		cfg: cfg, log: log, rooms: map[string]*room{}, sessions: map[string]*Session{}, links: map[*Link]struct{}{},
		idle: make(chan struct{}),
	}, nil
}

// Heartbeat returns how often a front door checks its connections.
func (s *Service) Heartbeat() time.Duration { return s.cfg.Heartbeat }

// Stop tells every client that the server stops and when to try again, and has their connections closed. New ones are refused.
func (s *Service) Stop(reason string, retryAfter time.Duration) {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return
	}
	s.stopping = true
	s.retryAfterMs = int(retryAfter / time.Millisecond)
	if len(s.links) == 0 {
		close(s.idle)
	}
	links := make([]*Link, 0, len(s.links))
	for l := range s.links {
		links = append(links, l)
	}
	sessions := make([]*Session, 0, len(s.sessions))
	for _, sess := range s.sessions {
		sessions = append(sessions, sess)
	}
	s.mu.Unlock()
	s.log.Info("signaling: stopping", slog.String("reason", reason), slog.Int("sessions", len(sessions)))
	for _, sess := range sessions {
		sess.emit(&wire.Closing{Reason: reason, RetryAfterMs: s.retryAfterMs})
	}
	for _, l := range links {
		l.shut(wire.CloseGoingAway, "the server stops")
	}
}

// Close stops, waits until the front doors have let go of every connection, ends all sessions, and returns when nothing of the
// Service runs any more. It may be called twice.
func (s *Service) Close() error {
	s.closeOnce.Do(func() {
		s.Stop("the server stops", 0)
		<-s.idle
		s.mu.Lock()
		sessions := make([]*Session, 0, len(s.sessions))
		for _, sess := range s.sessions {
			sessions = append(sessions, sess)
		}
		s.mu.Unlock()
		for _, sess := range sessions {
			sess.end(ending{reason: wire.LeftError})
			<-sess.gone // somebody else may be at it
		}
	})
	return nil
}

// disconnected forgets a link.
func (s *Service) disconnected(l *Link) {
	l.mu.Lock()
	joined := l.joined
	l.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.links[l]; !ok {
		return
	}
	delete(s.links, l)
	if !joined {
		s.waiting--
	}
	if s.stopping && len(s.links) == 0 {
		close(s.idle)
	}
}

// joined takes a link off the waiting ones.
func (s *Service) joined() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
}

// enter returns the room with that id for one more session, and makes it if need be.
func (s *Service) enter(id string) (*room, *wire.Error) {
	s.mu.Lock()
	if s.stopping {
		defer s.mu.Unlock()
		return nil, &wire.Error{Code: wire.TooMany, Message: "the server stops", Hint: "try again later", RetryAfterMs: s.retryAfterMs}
	}
	r := s.rooms[id]
	fresh := r == nil
	if fresh {
		r = &room{id: id, log: s.log, members: map[sfu.ParticipantID]*Session{}, owners: map[string]*Session{}}
		s.rooms[id] = r
	}
	r.users++
	s.mu.Unlock()
	if fresh {
		s.log.Info("signaling: room opened", slog.String("room", id))
	}
	return r, nil
}

// exit gives back what enter took.
func (s *Service) exit(r *room) {
	s.mu.Lock()
	r.users--
	empty := r.users == 0
	if empty {
		delete(s.rooms, r.id)
	}
	s.mu.Unlock()
	if empty {
		s.log.Info("signaling: room empty", slog.String("room", r.id))
	}
}

func (s *Service) register(sess *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[sess.id] = sess
}

func (s *Service) unregister(sess *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, sess.id)
}

// room returns a live room, nil if there is none.
func (s *Service) room(id string) *room {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rooms[id]
}

// Stats returns the figures of now.
func (s *Service) Stats() Stats {
	s.mu.Lock()
	st := Stats{Rooms: len(s.rooms), Sessions: len(s.sessions), Links: len(s.links)}
	s.mu.Unlock()
	st.Joins, st.Resumes, st.Expired = s.counters.joins.Load(), s.counters.resumes.Load(), s.counters.expired.Load()
	st.Slow, st.Violations = s.counters.slow.Load(), s.counters.violations.Load()
	st.Viewers, st.Ingests, st.Views = int(s.viewers.Load()), s.counters.ingests.Load(), s.counters.views.Load()
	return st
}

// RoomInfo describes a live room to operators.
type RoomInfo struct {
	ID           string
	Participants []ParticipantInfo
}

// ParticipantInfo describes a participant to operators.
type ParticipantInfo struct {
	wire.Participant
	Client string // software, as it calls itself
	Remote string // address of its newest connection
	Joined time.Time
}

// Rooms describes every live room, in the order of their ids.
func (s *Service) Rooms() []RoomInfo {
	s.mu.Lock()
	rooms := make([]*room, 0, len(s.rooms))
	for _, r := range s.rooms {
		rooms = append(rooms, r)
	}
	s.mu.Unlock()
	infos := make([]RoomInfo, 0, len(rooms))
	for _, r := range rooms {
		infos = append(infos, r.info())
	}
	slices.SortFunc(infos, func(a, b RoomInfo) int { return cmp.Compare(a.ID, b.ID) })
	return infos
}

// Room describes one live room.
func (s *Service) Room(id string) (RoomInfo, bool) {
	r := s.room(id)
	if r == nil {
		return RoomInfo{}, false
	}
	return r.info(), true
}

// Remove removes a participant in the name of the administrator.
func (s *Service) Remove(room, participant string) error {
	r := s.room(room)
	if r == nil {
		return refuse(wire.NotFound, "there is no such live room", "")
	}
	sess := r.member(participant)
	if sess == nil {
		return refuse(wire.NotFound, "there is no such participant", "")
	}
	sess.end(ending{reason: wire.LeftRemoved, final: &wire.Removed{Reason: wire.RemovedByAdmin}, code: wire.CloseRemoved, text: "removed"})
	return nil
}

// CloseRoom closes a room for good, with everybody in it.
func (s *Service) CloseRoom(ctx context.Context, room string) error {
	proper, err := s.cfg.Directory.Lookup(ctx, room)
	if err != nil {
		return err
	}
	if err := s.cfg.Directory.Close(ctx, proper); err != nil {
		return err
	}
	s.log.Info("signaling: room closed", slog.String("room", proper))
	r := s.room(proper)
	if r == nil {
		return nil
	}
	for _, sess := range r.close() {
		sess.end(ending{reason: wire.LeftRemoved, final: &wire.Removed{Reason: wire.RemovedClosed}, code: wire.CloseRemoved, text: "room closed"})
	}
	return nil
}

// OpenMeeting makes a new room for a caller. The URL is the front door's to fill in.
func (s *Service) OpenMeeting(ctx context.Context, c Caller) (wire.Meeting, error) {
	authorised := false
	if c.Bearer != "" {
		if err := s.cfg.Auth.Opener(ctx, c.Bearer); err != nil {
			return wire.Meeting{}, s.public(err, "check the token")
		}
		authorised = true
	}
	if err := s.cfg.Policy.Open(ctx, c, authorised); err != nil {
		return wire.Meeting{}, s.public(err, "decide who may open a meeting")
	}
	room, err := s.cfg.Directory.Create(ctx)
	if err != nil {
		return wire.Meeting{}, s.public(err, "make a room")
	}
	host, err := s.cfg.Auth.IssueHost(ctx, room)
	if err != nil {
		return wire.Meeting{}, s.public(err, "make a token")
	}
	return wire.Meeting{Room: room, HostToken: host}, nil
}

// JoinToken makes a token that gives its bearer a seat in the room.
func (s *Service) JoinToken(ctx context.Context, room string, r wire.TokenRequest) (wire.TokenReply, error) {
	proper, err := s.cfg.Directory.Lookup(ctx, room)
	if err != nil {
		return wire.TokenReply{}, s.public(err, "find the room")
	}
	p := Principal{Room: proper, Role: wire.RoleParticipant}
	if r.HostToken != "" {
		if err := s.cfg.Auth.Host(ctx, r.HostToken, proper); err != nil {
			return wire.TokenReply{}, s.public(err, "check the host token")
		}
		p.Role = wire.RoleHost
	}
	if r.Name != "" {
		name, refusal := properName(r.Name)
		if refusal != nil {
			return wire.TokenReply{}, refusal
		}
		p.Name = name
	}
	text, expires, err := s.cfg.Auth.IssueSeat(ctx, p)
	if err != nil {
		return wire.TokenReply{}, s.public(err, "make a token")
	}
	return wire.TokenReply{Token: text, Role: p.Role, ExpiresAt: expires.UnixMilli()}, nil
}

// WatchToken makes a token that lets its bearers watch the room's broadcast. Only a host gets one.
func (s *Service) WatchToken(ctx context.Context, room string, r wire.WatchRequest) (wire.WatchReply, error) {
	proper, err := s.cfg.Directory.Lookup(ctx, room)
	if err != nil {
		return wire.WatchReply{}, s.public(err, "find the room")
	}
	if err := s.cfg.Auth.Host(ctx, r.HostToken, proper); err != nil {
		return wire.WatchReply{}, s.public(err, "check the host token")
	}
	text, expires, err := s.cfg.Streams.IssueView(ctx, proper)
	if err != nil {
		return wire.WatchReply{}, s.public(err, "make a token")
	}
	return wire.WatchReply{Token: text, ExpiresAt: expires.UnixMilli()}, nil
}
