package signaling

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// StreamRequest is what a client sends that makes the offer itself, and hears of nothing but the answer (package whip).
type StreamRequest struct {
	Room   string
	Caller Caller
	Name   string // of the seat; empty: the token's, or "Live"
	Client string // software
	Remote string // address
	Screen bool   // the picture is a screen's, not a camera's
	Offer  sfu.ClientOffer
}

// Streams says whom a token lets publish into a room, or watch it, without the signaling. Tokens is the first implementation.
type Streams interface {
	// Ingest returns whom a token for publishing into the room names.
	Ingest(ctx context.Context, token, room string) (Principal, error)
	// View returns whom a token for watching the room names.
	View(ctx context.Context, token, room string) (Principal, error)
	// IssueView returns a token for watching the room, and when it ends.
	IssueView(ctx context.Context, room string) (string, time.Time, error)
}

// NoStreams takes no tokens.
type NoStreams struct{}

// Ingest refuses.
func (NoStreams) Ingest(context.Context, string, string) (Principal, error) {
	return Principal{}, refuse(wire.Unauthorized, "the token is not valid here", "")
}

// View refuses.
func (NoStreams) View(context.Context, string, string) (Principal, error) {
	return Principal{}, refuse(wire.Unauthorized, "the token is not valid here", "")
}

// IssueView refuses.
func (NoStreams) IssueView(context.Context, string) (string, time.Time, error) {
	return "", time.Time{}, refuse(wire.Forbidden, "nobody may watch without a seat", "")
}

// Stream is a publisher with a seat, or a viewer without one, whose client made the offer. Its methods may be called from any
// goroutine.
type Stream struct {
	svc      *Service
	id       string
	ice      []wire.ICEServer
	endpoint Endpoint
	close    func()
	done     <-chan struct{}
}

// ID names the stream in logs; a publisher's is that of the participant.
func (st *Stream) ID() string { return st.id }

// Done is closed when the stream has ended: by Close, by a host, by the client's goodbye, or because its transport failed.
func (st *Stream) Done() <-chan struct{} { return st.done }

// ICEServers are the STUN and TURN servers that the client should use.
func (st *Stream) ICEServers() []wire.ICEServer { return st.ice }

// Restart takes the client's new ICE credentials and returns the server's.
func (st *Stream) Restart(ctx context.Context, p sfu.ICEParams) (sfu.ICEParams, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	out, err := st.endpoint.RestartOffered(ctx, p)
	if err != nil {
		return out, st.svc.public(err, "restart ICE")
	}
	return out, nil
}

// Close ends the stream. It may be called twice.
func (st *Stream) Close() { st.close() }

// admitStream finds the room, whom the caller is and the ICE servers for it.
func (s *Service) admitStream(ctx context.Context, r *StreamRequest, check func(context.Context, string, string) (Principal, error)) (p Principal, ice []wire.ICEServer, err error) {
	room, err := s.cfg.Directory.Lookup(ctx, r.Room)
	if err != nil {
		return p, nil, s.public(err, "find the room")
	}
	p = Principal{Room: room, Role: wire.RoleParticipant}
	if r.Caller.Bearer != "" {
		if p, err = check(ctx, r.Caller.Bearer, room); err != nil {
			return p, nil, s.public(err, "check the token")
		}
	} else if s.cfg.Policy.Open(ctx, r.Caller, false) != nil { // who may open meetings here may also stream
		return p, nil, refuse(wire.Unauthorized, "a token is needed from another machine", "send Authorization: Bearer with one of `sotto ctl whip token`")
	}
	if err := s.cfg.Policy.Join(ctx, p); err != nil {
		return p, nil, s.public(err, "decide who may join")
	}
	if ice, err = s.cfg.ICE.For(ctx, p); err != nil {
		return p, nil, s.public(err, "find ICE servers")
	}
	return p, ice, nil
}

// Ingest gives a publisher that offers a seat in its room, where everybody sees it.
func (s *Service) Ingest(ctx context.Context, r StreamRequest) (*Stream, *sfu.Offer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	p, ice, err := s.admitStream(ctx, &r, s.cfg.Streams.Ingest)
	if err != nil {
		return nil, nil, err
	}
	name := strings.TrimSpace(p.Name)
	if name == "" {
		name = r.Name
	}
	if name == "" {
		name = "Live"
	}
	name, refusal := properName(name)
	if refusal == nil && len([]rune(name)) > wire.MaxNameChars {
		refusal = refuse(wire.BadRequest, "the name is too long", "")
	}
	if refusal != nil {
		return nil, nil, refusal
	}
	room, refusal := s.enter(p.Room)
	if refusal != nil {
		return nil, nil, refusal
	}
	sess := s.direct(room, p, name, &r)
	if refusal := sess.reserve(); refusal != nil {
		s.exit(room)
		return nil, nil, refusal
	}
	endpoint, answer, err := s.cfg.Media.JoinOffered(ctx, room.id, sfu.OfferedJoin{
		Participant: sess.participant, Label: name, Offer: r.Offer, Sources: sources(r.Offer.Sections, r.Screen),
	})
	if err != nil {
		sess.end(ending{})
		return nil, nil, s.public(err, "take the offer")
	}
	s.register(sess)
	if !sess.sitDirect(endpoint, answer) {
		s.release(sess, endpoint)
		<-sess.gone
		s.unregister(sess)
		return nil, nil, refuse(wire.RoomClosed, "the room was closed", "open a new meeting")
	}
	s.counters.ingests.Add(1)
	s.log.Info("signaling: stream began", slog.String("room", room.id), slog.String("participant", string(sess.participant)),
		slog.String("token", p.ID), slog.String("client", r.Client), slog.String("remote", r.Remote))
	return &Stream{
		svc: s, id: string(sess.participant), ice: ice, endpoint: endpoint, done: sess.gone,
		close: func() { sess.end(ending{reason: wire.LeftLeave}) },
	}, answer, nil
}

// direct makes a session that has no connection, and needs none.
func (s *Service) direct(room *room, p Principal, name string, r *StreamRequest) *Session {
	return &Session{
		svc: s, room: room, id: id.New("s_"), participant: sfu.ParticipantID(id.New("p_")), principal: p, name: name, client: r.Client,
		direct: true, since: time.Now(), remote: r.Remote, limiter: rate.NewLimiter(0, 0), chatLimiter: rate.NewLimiter(0, 0),
		turn: make(chan struct{}, 1), muting: make(chan struct{}, 1), gone: make(chan struct{}),
	}
}

// sources says what the sections of a publisher's offer carry: the first sound and the first picture, and what comes with them.
func sources(sections []sfu.ClientSection, screen bool) []sfu.Source {
	sound, pictures := []sfu.Source{sfu.Microphone, sfu.ScreenAudio}, []sfu.Source{sfu.Camera, sfu.Screen}
	if screen {
		sound, pictures = []sfu.Source{sfu.ScreenAudio, sfu.Microphone}, []sfu.Source{sfu.Screen, sfu.Camera}
	}
	out := make([]sfu.Source, len(sections))
	for i, s := range sections {
		list := &sound
		if s.Kind == sfu.Video {
			list = &pictures
		}
		if s.Rejected || s.Direction != sfu.SendOnly && s.Direction != sfu.SendRecv || len(*list) == 0 {
			continue
		}
		out[i], *list = (*list)[0], (*list)[1:]
	}
	return out
}

// sitDirect is sit for a session without a connection.
func (sess *Session) sitDirect(endpoint Endpoint, answer *sfu.Offer) bool {
	r := sess.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if sess.ended {
		return false
	}
	sess.endpoint = endpoint
	if answer != nil {
		for _, x := range answer.Sections {
			if x.Direction == sfu.RecvOnly && !x.Rejected {
				sess.addTrack(newTrack(x.Track, sfu.Publish{Source: x.Source, Codec: strings.ToLower(x.Codecs[0].Name), Simulcast: len(x.RIDs) > 1}))
			}
		}
	}
	sess.seated = true
	r.seated = append(r.seated, sess)
	r.report(sess, &wire.Joined{Participant: sess.describe()})
	return true
}
