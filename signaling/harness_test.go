package signaling

import (
	"context"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/internal/fake"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// media is the fake as the Service wants it.
type media struct{ *fake.Media }

func (m media) Join(ctx context.Context, conference string, o sfu.JoinOptions) (Endpoint, error) {
	e, err := m.Media.Join(ctx, conference, o)
	if err != nil {
		return nil, err
	}
	return e, nil
}

func (m media) JoinOffered(ctx context.Context, conference string, o sfu.OfferedJoin) (Endpoint, *sfu.Offer, error) {
	e, answer, err := m.Media.JoinOffered(ctx, conference, o)
	if err != nil {
		return nil, nil, err
	}
	return e, answer, nil
}

// world is a Service on the fake media, with one room.
type world struct {
	t      *testing.T
	media  *fake.Media
	svc    *Service
	tokens *Tokens
	rooms  *Rooms
	room   string
	host   string
}

func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	rooms := NewRooms(id.NewRooms([32]byte{1}), nil)
	w := &world{t: t, media: fake.New(), rooms: rooms}
	w.tokens = &Tokens{Signer: token.NewSigner(token.Seed{}), Owner: token.NewBearer("owner")}
	cfg := Config{Media: media{w.media}, Auth: w.tokens, Streams: w.tokens, Directory: rooms}
	if change != nil {
		change(&cfg)
	}
	var err error
	if w.svc, err = New(cfg, nil); err != nil {
		t.Fatal(err)
	}
	w.media.Observer = w.svc
	m, err := w.svc.OpenMeeting(t.Context(), Caller{Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	w.room, w.host = m.Room, m.HostToken
	t.Cleanup(func() {
		if err := w.svc.Close(); err != nil {
			t.Error(err)
		}
		if n := w.media.Open(); n != 0 {
			t.Errorf("%d endpoints are open after Close", n)
		}
		if st := w.svc.Stats(); st.Rooms != 0 || st.Sessions != 0 || st.Links != 0 {
			t.Errorf("after Close: %+v", st)
		}
	})
	return w
}

func (w *world) joinToken(host bool) string {
	w.t.Helper()
	r := wire.TokenRequest{}
	if host {
		r.HostToken = w.host
	}
	reply, err := w.svc.JoinToken(w.t.Context(), w.room, r)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply.Token
}

// client is the far end of a Link.
type client struct {
	w       *world
	link    *Link
	id      int64
	seq     int64 // of the last event
	join    *wire.JoinOK
	replies map[int64]wire.Reply
	events  []wire.Event // not looked at yet
	closing *Closing
	gone    bool
}

func (w *world) connect() *client {
	w.t.Helper()
	l, err := w.svc.Connect("198.18.0.9:1234")
	if err != nil {
		w.t.Fatal(err)
	}
	c := &client{w: w, link: l, replies: map[int64]wire.Reply{}}
	w.t.Cleanup(c.disconnect)
	return c
}

func (c *client) disconnect() {
	if !c.gone {
		c.gone = true
		c.link.Disconnect()
	}
}

// send queues a request and returns its id.
func (c *client) send(r wire.Request) int64 {
	c.id++
	c.sendAs(c.id, r)
	return c.id
}

func (c *client) sendAs(id int64, r wire.Request) {
	c.w.t.Helper()
	frame, err := wire.EncodeRequest(id, r)
	if err != nil {
		c.w.t.Fatal(err)
	}
	c.link.Receive(c.w.t.Context(), frame)
}

// drain reads what is queued and checks that events have no gaps.
func (c *client) drain() {
	c.w.t.Helper()
	for {
		frames, closing, ok := c.link.Take()
		if !ok {
			return
		}
		if closing != nil {
			c.closing = closing
			return
		}
		for _, text := range frames {
			f, err := wire.DecodeServer(text)
			if err != nil {
				c.w.t.Fatalf("%v in %s", err, text)
			}
			if f.Reply != nil {
				c.replies[f.Re] = f.Reply
				continue
			}
			if f.Seq != c.seq+1 {
				c.w.t.Fatalf("event %d follows %d: %s", f.Seq, c.seq, text)
			}
			c.seq = f.Seq
			c.events = append(c.events, f.Event)
		}
	}
}

// ask sends a request and returns its reply, nil if there is none.
func (c *client) ask(r wire.Request) wire.Reply {
	c.w.t.Helper()
	id := c.send(r)
	c.drain()
	return c.replies[id]
}

// must is ask for requests that are not refused.
func must[R wire.Reply](c *client, r wire.Request) R {
	c.w.t.Helper()
	reply := c.ask(r)
	ok, is := reply.(R)
	if !is {
		if f, failed := reply.(*wire.Failure); failed {
			c.w.t.Fatalf("%s: %v", r.Kind(), &f.Error)
		}
		c.w.t.Fatalf("%s: %v", r.Kind(), reply)
	}
	return ok
}

// refused is ask for requests that are refused with that code; it returns the message.
func (c *client) refused(code wire.Code, r wire.Request) string {
	c.w.t.Helper()
	reply := c.ask(r)
	f, is := reply.(*wire.Failure)
	if !is || f.Error.Code != code || f.Error.Message == "" {
		c.w.t.Fatalf("%s: %+v, want %s", r.Kind(), reply, code)
	}
	return f.Error.Message
}

// see returns the next event of a type, and drops those before it.
func see[E wire.Event](c *client) E {
	c.w.t.Helper()
	c.drain()
	for i, e := range c.events {
		if e, ok := e.(E); ok {
			c.events = c.events[i+1:]
			return e
		}
	}
	var zero E
	c.w.t.Fatalf("no %s among %d events", zero.Kind(), len(c.events))
	return zero
}

// unseen fails when an event of the type has come.
func unseen[E wire.Event](c *client) {
	c.w.t.Helper()
	c.drain()
	for _, e := range c.events {
		if e, ok := e.(E); ok {
			c.w.t.Fatalf("%s came: %+v", e.Kind(), e)
		}
	}
}

func (c *client) forget() {
	c.w.t.Helper()
	c.drain()
	c.events = nil
}

// member joins the room.
func (w *world) member(name string, host bool, publish ...wire.Publication) *client {
	w.t.Helper()
	c := w.connect()
	c.join = must[*wire.JoinOK](c, &wire.Join{Version: 1, Token: w.joinToken(host), Name: name, Publish: publish})
	return c
}

// resume takes the seat of another client over on a new connection.
func (c *client) resume(lastSeq int64) *client {
	c.w.t.Helper()
	n := c.w.connect()
	n.id, n.seq, n.join = c.id, lastSeq, c.join
	must[*wire.ResumeOK](n, n.resumption(lastSeq))
	return n
}

func (c *client) resumption(lastSeq int64) *wire.Resume {
	return &wire.Resume{Version: 1, Session: c.join.Session, ResumeToken: c.join.ResumeToken, LastSeq: lastSeq}
}

func (c *client) endpoint() *fake.Endpoint { return c.w.media.Endpoint(c.join.Participant) }

var (
	mic    = wire.Publication{Source: wire.Microphone}
	camera = wire.Publication{Source: wire.Camera, Simulcast: true}
)

const window = 30 * time.Second
