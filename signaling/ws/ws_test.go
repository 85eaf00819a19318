package ws

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/internal/door"
	"github.com/sotto-edge/sotto/signaling/internal/fake"
	"github.com/sotto-edge/sotto/signaling/wire"
)

type media struct{ *fake.Media }

func (m media) Join(ctx context.Context, conference string, o sfu.JoinOptions) (signaling.Endpoint, error) {
	e, err := m.Media.Join(ctx, conference, o)
	if err != nil {
		return nil, err
	}
	return e, nil
}

func (m media) JoinOffered(ctx context.Context, conference string, o sfu.OfferedJoin) (signaling.Endpoint, *sfu.Offer, error) {
	return m.Media.JoinOffered(ctx, conference, o)
}

func newService(t *testing.T, change func(*signaling.Config)) *signaling.Service {
	t.Helper()
	rooms := signaling.NewRooms(id.NewRooms([32]byte{1}), nil)
	m := fake.New()
	cfg := signaling.Config{
		Media: media{m}, Directory: rooms,
		Auth: &signaling.Tokens{Signer: token.NewSigner(token.NewSeed()), Owner: token.NewBearer("owner")},
	}
	if change != nil {
		change(&cfg)
	}
	svc, err := signaling.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Observer = svc
	return svc
}

// server is the front door on a real listener, with TLS.
type server struct {
	*httptest.Server
	t   *testing.T
	svc *signaling.Service
}

func newServer(t *testing.T, change func(*signaling.Config)) *server {
	t.Helper()
	svc := newService(t, change)
	s := &server{httptest.NewTLSServer(New(svc, Config{Origins: []string{"meet.example"}}, nil)), t, svc}
	t.Cleanup(func() {
		if err := svc.Close(); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return s
}

// post calls and decodes the answer, whose status must be the one given.
func (s *server) post(path string, header http.Header, body string, status int, into any) http.Header {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		r.Header[k] = v
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != status {
		s.t.Fatalf("%s: status %d, want %d: %s", path, resp.StatusCode, status, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		s.t.Fatalf("%s: %v in %s", path, err, text)
	}
	return resp.Header
}

func (s *server) joinToken(m wire.Meeting, body string) string {
	s.t.Helper()
	var reply wire.TokenReply
	s.post("/api/v1/meetings/"+m.Room+"/token", nil, body, http.StatusOK, &reply)
	return reply.Token
}

func (s *server) meeting() wire.Meeting {
	s.t.Helper()
	var m wire.Meeting
	s.post("/api/v1/meetings", nil, "{}", http.StatusCreated, &m)
	return m
}

// peer is a client on a socket.
type peer struct {
	t    *testing.T
	conn *websocket.Conn
	id   int64
	seq  int64
}

func (s *server) dial(header http.Header) (*peer, *http.Response, error) {
	s.t.Helper()
	conn, resp, err := websocket.Dial(s.t.Context(), s.URL+"/ws", &websocket.DialOptions{
		HTTPClient: s.Client(), HTTPHeader: header, Subprotocols: []string{wire.Subprotocol},
	})
	if err != nil {
		return nil, resp, err
	}
	conn.SetReadLimit(1 << 20)
	s.t.Cleanup(func() { _ = conn.CloseNow() })
	return &peer{t: s.t, conn: conn}, resp, nil
}

func (s *server) connect() *peer {
	s.t.Helper()
	p, _, err := s.dial(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (p *peer) write(text string) {
	p.t.Helper()
	if err := p.conn.Write(p.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) read() wire.ServerFrame {
	p.t.Helper()
	_, text, err := p.conn.Read(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	f, err := wire.DecodeServer(text)
	if err != nil {
		p.t.Fatalf("%v in %s", err, text)
	}
	if f.Event != nil {
		if f.Seq != p.seq+1 {
			p.t.Fatalf("event %d follows %d", f.Seq, p.seq)
		}
		p.seq = f.Seq
	}
	return f
}

// ask sends a request and reads up to its reply.
func (p *peer) ask(r wire.Request) wire.Reply {
	p.t.Helper()
	p.id++
	text, err := wire.EncodeRequest(p.id, r)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(string(text))
	for {
		if f := p.read(); f.Reply != nil && f.Re == p.id {
			return f.Reply
		}
	}
}

func (p *peer) join(token, name string) *wire.JoinOK {
	p.t.Helper()
	reply := p.ask(&wire.Join{Version: 1, Token: token, Name: name})
	ok, is := reply.(*wire.JoinOK)
	if !is {
		p.t.Fatalf("join: %+v", reply)
	}
	return ok
}

// see reads up to the next event of a type.
func see[E wire.Event](p *peer) E {
	p.t.Helper()
	for {
		if e, ok := p.read().Event.(E); ok {
			return e
		}
	}
}

// closed reads up to the end and returns the close code.
func (p *peer) closed() websocket.StatusCode {
	p.t.Helper()
	for {
		if _, _, err := p.conn.Read(p.t.Context()); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func TestMeeting(t *testing.T) {
	s := newServer(t, nil)
	m := s.meeting()
	if want := "https://" + strings.TrimPrefix(s.URL, "https://") + "/m/" + m.Room; m.URL != want {
		t.Errorf("url %q, want %q", m.URL, want)
	}
	host, err := json.Marshal(wire.TokenRequest{HostToken: m.HostToken, Name: "Host"})
	if err != nil {
		t.Fatal(err)
	}
	a := s.connect()
	if ok := a.join(s.joinToken(m, string(host)), "x"); ok.Role != wire.RoleHost || ok.Roster[0].Name != "Host" {
		t.Errorf("join.ok %+v", ok)
	}
	offer := see[*wire.Offer](a)
	if reply := a.ask(&wire.Answer{Number: offer.Number, SDP: fake.AnswerTo(offer.SDP)}); reply.Kind() != "answer.ok" {
		t.Errorf("answer: %+v", reply)
	}
	b := s.connect()
	seat := b.join(s.joinToken(m, ""), "Bo")
	see[*wire.Offer](b)
	if p := see[*wire.Joined](a).Participant; p.Name != "Bo" || p.ID != seat.Participant {
		t.Errorf("joined %+v", p)
	}

	// The socket drops; a line is missed; the same seat is taken again and the line comes.
	_ = b.conn.CloseNow()
	if p := see[*wire.Updated](a).Participant; p.Connected {
		t.Errorf("updated %+v", p)
	}
	a.ask(&wire.Chat{Text: "missed"})
	again := s.connect()
	again.seq = b.seq
	reply := again.ask(&wire.Resume{Version: 1, Session: seat.Session, ResumeToken: seat.ResumeToken, LastSeq: b.seq})
	if reply.Kind() != "resume.ok" {
		t.Fatalf("resume: %+v", reply)
	}
	if line := see[*wire.ChatLine](again); line.Text != "missed" {
		t.Errorf("chat %+v", line)
	}

	third := s.connect()
	if reply := third.ask(&wire.Resume{Version: 1, Session: seat.Session, ResumeToken: seat.ResumeToken, LastSeq: 0}); reply.Kind() != "resume.ok" {
		t.Fatalf("resume: %+v", reply)
	}
	if code := again.closed(); code != wire.CloseTakenOver {
		t.Errorf("close code %d", code)
	}
	a.ask(&wire.Moderate{Action: wire.ActionRemove, Participant: seat.Participant})
	if r := see[*wire.Removed](third).Reason; r != wire.RemovedByHost {
		t.Errorf("removed: %s", r)
	}
	if code := third.closed(); code != wire.CloseRemoved {
		t.Errorf("close code %d", code)
	}
	if reply := a.ask(&wire.Leave{}); reply.Kind() != "leave.ok" {
		t.Errorf("leave: %+v", reply)
	}
	if code := a.closed(); code != wire.CloseNormal {
		t.Errorf("close code %d", code)
	}
}

// A stop tells everybody, closes every socket, and returns when all handlers have.
func TestClosing(t *testing.T) {
	s := newServer(t, nil)
	m := s.meeting()
	a, waiting := s.connect(), s.connect()
	a.join(s.joinToken(m, ""), "Ada")
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.svc.Stop("upgrade", 2*time.Second)
		_ = s.svc.Close()
	}()
	if e := see[*wire.Closing](a); e.RetryAfterMs != 2000 {
		t.Errorf("closing %+v", e)
	}
	for _, p := range []*peer{a, waiting} {
		if code := p.closed(); code != wire.CloseGoingAway {
			t.Errorf("close code %d", code)
		}
	}
	<-stopped
	_, resp, err := s.dial(nil)
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a stopped server answers %v", resp)
	}
}

func TestFrames(t *testing.T) {
	s := newServer(t, nil)
	p := s.connect()
	refused := func(code wire.Code) {
		t.Helper()
		f, ok := p.read().Reply.(*wire.Failure)
		if !ok || f.Error.Code != code {
			t.Errorf("%+v, want %s", f, code)
		}
	}
	p.write("nonsense")
	refused(wire.BadRequest)
	if err := p.conn.Write(t.Context(), websocket.MessageBinary, []byte(`{"id":1,"type":"leave"}`)); err != nil {
		t.Fatal(err)
	}
	refused(wire.BadRequest)
	p.write(strings.Repeat(" ", wire.MaxFrameBytes+1))
	refused(wire.TooLarge)
	p.write(strings.Repeat(" ", readLimit+1))
	if code := p.closed(); code != wire.CloseTooBig {
		t.Errorf("close code %d", code)
	}

	p = s.connect()
	for range 40 {
		if err := p.conn.Write(t.Context(), websocket.MessageText, []byte("nonsense")); err != nil {
			break // cut already
		}
	}
	if code := p.closed(); code != wire.CloseViolation {
		t.Errorf("close code %d", code)
	}
}

func TestHandshake(t *testing.T) {
	s := newServer(t, func(c *signaling.Config) { c.WaitingLinks = 1 })
	host := strings.TrimPrefix(s.URL, "https://")
	for origin, ok := range map[string]bool{
		"":                      true,
		"https://" + host:       true,
		"https://meet.example":  true,
		"https://MEET.example":  true,
		"http://" + host:        false,
		"https://evil.example":  false,
		"https://" + host + "1": false,
		"null":                  false,
		"https://127.0.0.1":     false,
		"://":                   false,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		p, resp, err := s.dial(header)
		if ok != (err == nil) {
			t.Errorf("origin %q: %v", origin, err)
		}
		if err != nil {
			if resp.StatusCode != http.StatusForbidden {
				t.Errorf("origin %q: status %d", origin, resp.StatusCode)
			}
			continue
		}
		if p.conn.Subprotocol() != wire.Subprotocol {
			t.Errorf("subprotocol %q", p.conn.Subprotocol())
		}
		if _, resp, err := s.dial(nil); err == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "5" {
			t.Errorf("a connection too many: %v", resp)
		}
		if err := p.conn.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
		waitFor(t, func() bool { return s.svc.Stats().Links == 0 })
	}
	_, resp, err := websocket.Dial(t.Context(), s.URL+"/ws", &websocket.DialOptions{HTTPClient: s.Client(), Subprotocols: []string{"sotto.v9"}})
	if err == nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("another subprotocol: %v", resp)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ws", nil)
	r.Header.Set("Sec-WebSocket-Protocol", wire.Subprotocol)
	rec := httptest.NewRecorder()
	New(s.svc, Config{}, nil).ServeHTTP(rec, r)
	if rec.Code != http.StatusUpgradeRequired {
		t.Errorf("a GET that is no handshake: status %d", rec.Code)
	}
	waitFor(t, func() bool { return s.svc.Stats().Links == 0 })
}

// waitFor waits for what another goroutine is about to do.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the test ended before")
		}
	}
}

// Who may open a meeting is decided by the real peer's address and by tokens, never by what a header claims.
func TestWhoMayOpen(t *testing.T) {
	svc := newService(t, nil)
	h := New(svc, Config{Origins: []string{"meet.example"}}, nil)
	for _, c := range []struct {
		name, peer, host string
		header           http.Header
		status           int
	}{
		{"loopback", "127.0.0.1:5000", "localhost:8443", nil, 201},
		{"loopback by address", "127.0.0.1:5000", "127.0.0.1:8443", nil, 201},
		{"loopback without a port", "127.9.9.9:5000", "127.0.0.1", nil, 201},
		{"IPv6 loopback", "[::1]:5000", "[::1]:8443", nil, 201},
		{"mapped loopback", "[::ffff:127.0.0.1]:5000", "sotto.localhost", nil, 201},
		{"configured name", "127.0.0.1:5000", "meet.example", nil, 201},
		{"name bent to loopback", "127.0.0.1:5000", "evil.example", nil, 401},
		{"name that looks local", "127.0.0.1:5000", "localhost.evil.example", nil, 401},
		{"another machine", "198.18.0.5:5000", "localhost", nil, 401},
		{"another machine claims loopback", "198.18.0.5:5000", "localhost", http.Header{"X-Forwarded-For": {"127.0.0.1"}}, 401},
		{"through a local proxy", "127.0.0.1:5000", "localhost", http.Header{"X-Forwarded-For": {"127.0.0.1"}}, 401},
		{"through a local proxy that says so", "127.0.0.1:5000", "localhost", http.Header{"Forwarded": {"for=127.0.0.1"}}, 401},
		{"unreadable peer", "@", "localhost", nil, 401},
		{"owner", "198.18.0.5:5000", "sotto.example", http.Header{"Authorization": {"bearer owner"}}, 201},
		{"wrong token", "198.18.0.5:5000", "sotto.example", http.Header{"Authorization": {"Bearer x"}}, 401},
		{"wrong token on loopback", "127.0.0.1:5000", "localhost", http.Header{"Authorization": {"Bearer x"}}, 401},
		{"another scheme", "198.18.0.5:5000", "sotto.example", http.Header{"Authorization": {"Basic b3duZXI="}}, 400},
		{"no token", "198.18.0.5:5000", "sotto.example", http.Header{"Authorization": {"Bearer"}}, 400},
		{"page of another site", "127.0.0.1:5000", "localhost", http.Header{"Origin": {"https://evil.example"}}, 403},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/meetings", nil)
		r.RemoteAddr, r.Host = c.peer, c.host
		for k, v := range c.header {
			r.Header[k] = v
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if rec.Code != c.status {
			t.Errorf("%s: status %d, want %d: %s", c.name, rec.Code, c.status, rec.Body)
		}
		if (rec.Header().Get("WWW-Authenticate") != "") != (c.status == 401) || rec.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: header %v", c.name, rec.Header())
		}
		var body struct {
			wire.HTTPError
			wire.Meeting
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil || (body.Room == "") == (c.status == 201) || (body.Error.Code == "") == (c.status != 201) {
			t.Errorf("%s: %s, %v", c.name, rec.Body, err)
		}
	}
}

func TestHTTPRefusals(t *testing.T) {
	s := newServer(t, nil)
	m, gone := s.meeting(), s.meeting()
	if err := s.svc.CloseRoom(t.Context(), gone.Room); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, kind, body string
		status           int
		code             wire.Code
	}{
		{"/api/v1/meetings", "application/json", `{"x":`, 400, wire.BadRequest},
		{"/api/v1/meetings", "application/json", `[]`, 400, wire.BadRequest},
		{"/api/v1/meetings", "text/plain", `{}`, 415, wire.BadRequest},
		{"/api/v1/meetings", "application/json", `{"x":"` + strings.Repeat("x", maxBody) + `"}`, 413, wire.TooLarge},
		{"/api/v1/meetings/" + m.Room + "/token", "application/json", `{"name":1}`, 400, wire.BadRequest},
		{"/api/v1/meetings/" + m.Room + "/token", "application/json; charset=utf-8", `{"hostToken":"x"}`, 401, wire.Unauthorized},
		{"/api/v1/meetings/" + m.Room + "/token", "application/json", `{"name":"` + strings.Repeat("x", 65) + `"}`, 413, wire.TooLarge},
		{"/api/v1/meetings/" + gone.Room + "/token", "application/json", `{}`, 410, wire.RoomClosed},
		{"/api/v1/meetings/" + m.Room + "/watch-token", "application/json", `{"hostToken":"x"}`, 401, wire.Unauthorized},
		{"/api/v1/meetings/" + m.Room + "/watch-token", "application/json", `{}`, 400, wire.BadRequest},
		{"/api/v1/meetings/" + m.Room + "/watch-token", "text/plain", `{}`, 415, wire.BadRequest},
		{"/api/v1/meetings/" + gone.Room + "/watch-token", "application/json", `{"hostToken":"x"}`, 410, wire.RoomClosed},
		{"/api/v1/meetings/zzz/token", "application/json", `{}`, 404, wire.NotFound},
		{"/api/v1/meetings/" + m.Room + "/token/x", "application/json", `{}`, 404, wire.NotFound},
		{"/ws", "application/json", `{}`, 405, wire.BadRequest},
	} {
		var e wire.HTTPError
		s.post(c.path, http.Header{"Content-Type": {c.kind}}, c.body, c.status, &e)
		if e.Error.Code != c.code || e.Error.Message == "" {
			t.Errorf("%s %.30s: %+v", c.path, c.body, e)
		}
	}
	var e wire.HTTPError
	s.post("/api/v1/meetings/"+m.Room+"/token", http.Header{"Origin": {"https://evil.example"}}, "", 403, &e)
}

func TestStatus(t *testing.T) {
	if s := door.Status(errors.New("x")); s != http.StatusInternalServerError {
		t.Errorf("status %d", s)
	}
	rec := httptest.NewRecorder()
	refuse(rec, 500, errors.New("secret"))
	if strings.Contains(rec.Body.String(), "secret") {
		t.Error(rec.Body)
	}
}

// pipes is a listener whose connections exist in memory only, so that a synctest bubble knows when nothing happens on them.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.done)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// mutable is a connection that can fall silent: what is written then goes nowhere.
type mutable struct {
	net.Conn
	silent *atomic.Bool
}

func (m mutable) Write(b []byte) (int, error) {
	if m.silent.Load() {
		return len(b), nil
	}
	return m.Conn.Write(b)
}

// A peer that is gone without a word is found by the heartbeat, and its seat waits and is given up.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := newService(t, nil)
		listener := &pipes{make(chan net.Conn), make(chan struct{})}
		srv := &http.Server{Handler: New(svc, Config{}, nil)}
		served := make(chan error)
		go func() { served <- srv.Serve(listener) }()
		var silent atomic.Bool
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			far, near := net.Pipe()
			listener.conns <- far
			return mutable{near, &silent}, nil
		}}
		m, err := svc.OpenMeeting(t.Context(), signaling.Caller{Loopback: true})
		if err != nil {
			t.Fatal(err)
		}
		tok, err := svc.JoinToken(t.Context(), m.Room, wire.TokenRequest{})
		if err != nil {
			t.Fatal(err)
		}
		conn, _, err := websocket.Dial(t.Context(), "ws://localhost/ws", &websocket.DialOptions{
			HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{wire.Subprotocol},
		})
		if err != nil {
			t.Fatal(err)
		}
		p := &peer{t: t, conn: conn}
		p.join(tok.Token, "Ada")
		see[*wire.Offer](p)

		// While the client reads, it answers pings, and stays.
		read := make(chan struct{})
		go func() {
			defer close(read)
			for {
				if _, _, err := conn.Read(t.Context()); err != nil {
					return
				}
			}
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if info, ok := svc.Room(m.Room); !ok || !info.Participants[0].Connected {
			t.Fatalf("room %+v", info)
		}
		silent.Store(true)
		time.Sleep(2*svc.Heartbeat() + time.Second)
		synctest.Wait()
		if info, ok := svc.Room(m.Room); !ok || info.Participants[0].Connected {
			t.Errorf("room %+v", info)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, ok := svc.Room(m.Room); ok {
			t.Error("the seat is still there")
		}
		<-read
		if err := svc.Close(); err != nil {
			t.Error(err)
		}
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		transport.CloseIdleConnections()
	})
}
