package signaling

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// requestTimeout bounds what one request may take of the media side. Requests are not cut when their connection breaks: the
// client asks for their reply when it comes back.
const requestTimeout = 10 * time.Second

// A line of chat goes to everybody in the room, so it has a limit of its own beside that of requests.
const (
	chatPerSecond = 5
	chatBurst     = 20
)

// Session is one participant's seat, from join to leave, over any number of connections.
type Session struct {
	svc         *Service
	room        *room
	id          string
	participant sfu.ParticipantID
	principal   Principal
	name        string
	client      string
	resume      [sha256.Size]byte // of the resume token
	direct      bool              // no connection, and none needed: its client made the offer
	broadcast   *broadcast        // that the seat is of; nil: of a participant
	since       time.Time
	limiter     *rate.Limiter
	chatLimiter *rate.Limiter
	turn        chan struct{} // holds one element while a request is executed, whatever connection it came by
	muting      chan struct{} // the same for changes of mute, which hosts make too
	mayHaveData bool
	gone        chan struct{} // closed when nothing of the session is left

	// Guarded by the room's lock.
	endpoint Endpoint // nil until seated
	seated   bool
	ended    bool
	link     *Link // nil while there is no connection
	remote   string
	expiry   *time.Timer
	absence  int // counts the times that the connection was lost, and that it came back
	tracks   []*wire.Track
	data     wire.DataState // "": none
	events   eventLog
	replies  replyCache
	offer    *sfu.Offer // the newest; once answered, its number alone
	offerSeq int64      // of the event that told of it
	answered bool       // the newest offer is
}

// ending says how a session ends.
type ending struct {
	reason  wire.LeftReason
	final   wire.Event // the last thing its own client is told; nil: nothing
	code    int        // the connection is closed with
	text    string
	absence int // not 0: only while this absence lasts, so not if the client has come back
}

// join takes a seat for the link. On success the reply is queued; otherwise nothing is left of the attempt.
func (s *Service) join(ctx context.Context, l *Link, reqID int64, r *wire.Join) *wire.Error {
	if r.Version != wire.Version {
		return wrongVersion()
	}
	name, refusal := properName(r.Name)
	if refusal != nil {
		return refusal
	}
	publish, refusal := publications(r.Publish, nil)
	if refusal != nil {
		return refusal
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	p, err := s.cfg.Auth.Seat(ctx, r.Token)
	if err != nil {
		return s.public(err, "check the token")
	}
	if p.Room, err = s.cfg.Directory.Lookup(ctx, p.Room); err != nil {
		return s.public(err, "find the room")
	}
	if err = s.cfg.Policy.Join(ctx, p); err != nil {
		return s.public(err, "decide who may join")
	}
	data, err := s.mayHaveData(ctx, p)
	if err != nil {
		return s.public(err, "decide who may have data channels")
	}
	ice, err := s.cfg.ICE.For(ctx, p)
	if err != nil {
		return s.public(err, "find ICE servers")
	}
	if p.Name != "" {
		name = p.Name
	}
	room, refusal := s.enter(p.Room)
	if refusal != nil {
		return refusal
	}
	secret := id.Secret()
	sess := &Session{
		svc: s, room: room, id: id.New("s_"), participant: sfu.ParticipantID(id.New("p_")), principal: p, name: name, client: r.Client,
		resume: sha256.Sum256([]byte(secret)), since: time.Now(), remote: l.remote,
		limiter:     rate.NewLimiter(rate.Limit(s.cfg.RequestsPerSecond), s.cfg.RequestBurst),
		chatLimiter: rate.NewLimiter(chatPerSecond, chatBurst),
		turn:        make(chan struct{}, 1), muting: make(chan struct{}, 1), gone: make(chan struct{}),
		events: eventLog{events: 2 * s.cfg.QueuedEvents}, mayHaveData: data,
	}
	if refusal := sess.reserve(); refusal != nil {
		s.exit(room)
		return refusal
	}
	if r.Data && sess.mayHaveData {
		sess.data = wire.DataOpen
	}
	endpoint, err := s.cfg.Media.Join(ctx, room.id, sfu.JoinOptions{
		Participant: sess.participant, Label: name, Publish: publish, Data: sess.data != "",
	})
	if err != nil {
		sess.end(ending{})
		return s.public(err, "join the conference")
	}
	ids, err := endpoint.Tracks(ctx)
	if err != nil {
		s.release(sess, endpoint)
		sess.end(ending{})
		return s.public(err, "join the conference")
	}
	s.register(sess)
	if !sess.sit(l, reqID, endpoint, publish, ids, secret, ice) {
		s.release(sess, endpoint)
		<-sess.gone
		s.unregister(sess)
		return refuse(wire.RoomClosed, "the room was closed", "open a new meeting")
	}
	l.session = sess
	s.joined()
	s.counters.joins.Add(1)
	s.log.Info("signaling: joined", slog.String("room", room.id), slog.String("participant", string(sess.participant)),
		slog.String("role", string(p.Role)), slog.String("token", p.ID), slog.String("client", r.Client), slog.String("remote", l.remote))
	return nil
}

func wrongVersion() *wire.Error {
	return refuse(wire.UnsupportedVersion, "this server speaks protocol version 1", "load the page anew, or update the client")
}

// reserve holds a seat while the media side is asked.
func (sess *Session) reserve() *wire.Error {
	r := sess.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return refuse(wire.RoomClosed, "the room was closed", "open a new meeting")
	}
	if len(r.members) >= sess.svc.cfg.Participants {
		return &wire.Error{
			Code: wire.RoomFull, Message: "the room is full", Hint: "try again when somebody has left", RetryAfterMs: 10000,
		}
	}
	r.members[sess.participant] = sess
	return nil
}

// sit makes the reserved seat a taken one: from here on the session is told of everything. It fails when the session was ended
// meanwhile.
func (sess *Session) sit(l *Link, reqID int64, endpoint Endpoint, publish []sfu.Publish, ids map[sfu.Source]sfu.TrackID, secret string, ice []wire.ICEServer) bool {
	r := sess.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if sess.ended {
		return false
	}
	sess.endpoint, sess.seated, sess.link = endpoint, true, l
	ok := &wire.JoinOK{
		Version: wire.Version, Session: sess.id, ResumeToken: secret, Participant: string(sess.participant), Role: sess.principal.Role,
		Room: r.id, Limits: sess.svc.cfg.limits(), ICEServers: ice,
		ResumeWindowMs: int(sess.svc.cfg.ResumeWindow / time.Millisecond), HeartbeatMs: int(sess.svc.cfg.Heartbeat / time.Millisecond),
		Recording: r.recording, CanRecord: sess.svc.cfg.Recorder != nil,
	}
	if !sess.mayHaveData {
		ok.Limits.DataBytes = 0
	}
	for _, p := range publish {
		sess.addTrack(newTrack(ids[p.Source], p))
		ok.Tracks = append(ok.Tracks, wire.OwnTrack{Source: wire.Source(p.Source), Track: string(ids[p.Source])})
	}
	r.seated = append(r.seated, sess)
	r.recast()
	ok.Roster = r.roster()
	l.seated()
	l.reply(reqID, ok)
	early, _ := sess.events.after(0) // the first offer may have been quicker
	l.replay(early)
	r.report(sess, &wire.Joined{Participant: sess.describe()})
	if r.speaker != "" {
		sess.tell(&wire.Speaker{Participant: r.speaker})
	}
	return true
}

// resume takes the seat back for a new link. On success the reply and the missed events are queued.
func (s *Service) resume(l *Link, reqID int64, r *wire.Resume) *wire.Error {
	if r.Version != wire.Version {
		return wrongVersion()
	}
	s.mu.Lock()
	sess := s.sessions[r.Session]
	s.mu.Unlock()
	sum := sha256.Sum256([]byte(r.ResumeToken))
	if sess == nil || subtle.ConstantTimeCompare(sum[:], sess.resume[:]) != 1 {
		return sessionGone()
	}
	old, missed, refusal := sess.takeOver(l, reqID, r.LastSeq)
	if refusal != nil {
		if refusal.Code == wire.SessionGone { // the client joins anew: do not leave its ghost in the room
			sess.end(ending{reason: wire.LeftExpired, code: wire.CloseExpired, text: "cannot be resumed"})
		}
		return refusal
	}
	if old != nil {
		old.shut(wire.CloseTakenOver, "resumed by another connection")
	}
	l.session = sess
	s.joined()
	s.counters.resumes.Add(1)
	s.log.Info("signaling: resumed", slog.String("room", sess.room.id), slog.String("participant", string(sess.participant)),
		slog.Int("missed", missed), slog.Bool("takeover", old != nil), slog.String("remote", l.remote))
	return nil
}

func sessionGone() *wire.Error {
	return refuse(wire.SessionGone, "there is no such session, or it cannot be resumed any more", "join again")
}

func (sess *Session) takeOver(l *Link, reqID, lastSeq int64) (old *Link, missed int, refusal *wire.Error) {
	r := sess.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if sess.ended {
		return nil, 0, sessionGone()
	}
	if lastSeq < 0 || lastSeq > sess.events.last {
		return nil, 0, refuse(wire.BadRequest, "field lastSeq: no such event was sent", "use the seq of the last event of this session")
	}
	frames, ok := sess.events.after(lastSeq)
	if !ok {
		return nil, 0, sessionGone()
	}
	old, sess.link, sess.remote = sess.link, l, l.remote
	if sess.expiry != nil {
		sess.expiry.Stop() // if it has fired, the next line stops it
		sess.expiry = nil
		sess.absence++
	}
	l.seated()
	l.reply(reqID, &wire.ResumeOK{Session: sess.id, Seq: sess.events.last})
	l.replay(frames)
	if old == nil {
		r.report(nil, &wire.Updated{Participant: sess.describe()})
	}
	return old, len(frames), nil
}

// detach notes that a link is gone. If it was the session's, the seat waits for the next one.
func (sess *Session) detach(l *Link) {
	r := sess.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if sess.link != l || sess.ended {
		return
	}
	sess.link = nil
	sess.absence++
	this := sess.absence
	sess.expiry = time.AfterFunc(sess.svc.cfg.ResumeWindow, func() {
		sess.end(ending{reason: wire.LeftExpired, absence: this})
	})
	r.report(nil, &wire.Updated{Participant: sess.describe()})
}

// end gives the seat up: the others are told, the connection is closed, the endpoint too. The first call counts; later ones return
// at once.
func (sess *Session) end(how ending) {
	r := sess.room
	r.mu.Lock()
	if sess.ended || how.absence != 0 && how.absence != sess.absence {
		r.mu.Unlock()
		return
	}
	if how.final != nil {
		sess.tell(how.final)
	}
	sess.ended = true
	link, endpoint, expiry, seated := sess.link, sess.endpoint, sess.expiry, sess.seated
	sess.link, sess.endpoint, sess.expiry = nil, nil, nil
	r.unseat(sess, how.reason)
	if r.cast != nil && r.cast == sess.broadcast {
		r.cast = nil
		r.unwatched = how.final != nil // somebody has removed it
	}
	r.recast()
	r.mu.Unlock()

	if expiry != nil {
		expiry.Stop()
	}
	if how.reason == wire.LeftExpired {
		sess.svc.counters.expired.Add(1)
	}
	if link != nil {
		link.shut(how.code, how.text)
	}
	if endpoint != nil {
		sess.svc.release(sess, endpoint)
	}
	if sess.broadcast != nil {
		sess.broadcast.finish(r, sess.svc)
	}
	if seated {
		sess.svc.log.Info("signaling: left", slog.String("room", r.id), slog.String("participant", string(sess.participant)),
			slog.String("reason", string(how.reason)), slog.Duration("after", time.Since(sess.since).Round(time.Second)))
	}
	sess.svc.exit(r)
	sess.svc.unregister(sess)
	close(sess.gone)
}

// release closes an endpoint that no session holds any more.
func (s *Service) release(sess *Session, e Endpoint) {
	if err := e.Close(); err != nil {
		s.log.Error("signaling: close an endpoint", slog.String("participant", string(sess.participant)), slog.Any("error", err))
	}
}

// emit tells the session's client something.
func (sess *Session) emit(e wire.Event) {
	sess.room.mu.Lock()
	defer sess.room.mu.Unlock()
	sess.tell(e)
}

// tell is emit with the room's lock held.
func (sess *Session) tell(e wire.Event) {
	if body, ok := sess.room.encode(e); ok {
		sess.add(body, true)
	}
}

// add gives the session its next event, and has it and those before sent, now or by and by. The room's lock is held.
func (sess *Session) add(b wire.Body, now bool) {
	if sess.ended || sess.direct {
		return
	}
	seq := sess.events.add(b)
	switch {
	case sess.link == nil:
	case now:
		sess.link.push(b.Frame(nil, seq))
	default:
		sess.link.linger(b.Frame(nil, seq))
	}
}

// describe returns the session as the others see it. The room's lock is held.
func (sess *Session) describe() wire.Participant {
	p := wire.Participant{
		ID: string(sess.participant), Name: sess.name, Role: sess.principal.Role, Connected: sess.link != nil || sess.direct,
		Broadcast: sess.broadcast != nil,
		Tracks:    make([]wire.Track, 0, len(sess.tracks)), Data: sess.data,
	}
	for _, t := range sess.tracks {
		p.Tracks = append(p.Tracks, *t)
	}
	return p
}

// addTrack takes a new own track in. The room's lock is held.
func (sess *Session) addTrack(t *wire.Track) {
	sess.tracks = append(sess.tracks, t)
	sess.room.owners[t.ID] = sess
}

// track returns an own track, nil if there is none. The room's lock is held.
func (sess *Session) track(id string) *wire.Track {
	for _, t := range sess.tracks {
		if t.ID == id {
			return t
		}
	}
	return nil
}
