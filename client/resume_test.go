package client_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/wire"
)

func through(p *proxy) func(*client.Config) {
	return func(cfg *client.Config) { cfg.URL = p.url() }
}

// A dropped socket is taken up again: same seat, no offer, nothing missed; media does not notice; what was asked meanwhile is done
// once.
func TestResume(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	p := newProxy(t, m.server)
	ann := m.join("Ann", with(publish(camera), through(p)))
	bob := m.join("Bob", auto)
	talk(t, ann.Local(wire.Camera), nil)
	stream := bob.stream(wire.Camera)
	packets := read(t, stream, 10)
	handshakes := m.stats().Transport.DTLSIn

	p.cut(true)
	event[*client.Dropped](ann, nil)
	if e := event[*wire.Updated](bob, func(e *wire.Updated) bool { return !e.Participant.Connected }); e.Participant.ID != ann.Participant() {
		t.Errorf("event %+v", e)
	}
	chat := func(from *member, text string) {
		must(t, "chat", func(ctx context.Context) error {
			_, err := from.Chat(ctx, text)
			return err
		})
	}
	chat(bob, "one")
	chat(bob, "two")
	var asking sync.WaitGroup
	asking.Go(func() { chat(ann, "three") })
	packets = append(packets, read(t, stream, 50)...)
	p.cut(false)
	event[*client.Resumed](ann, nil)
	asking.Wait()
	for _, who := range []*member{ann, bob} {
		for _, want := range []string{"one", "two", "three"} {
			if want == "three" && who == bob {
				if e := event[*wire.Updated](bob, nil); !e.Participant.Connected {
					t.Errorf("event %+v", e)
				}
			}
			if e := event[*wire.ChatLine](who, nil); e.Text != want {
				t.Errorf("line %q, want %q", e.Text, want)
			}
		}
	}
	continuous(t, append(packets, read(t, stream, 20)...), videoClock)
	if got := m.stats().Transport.DTLSIn; got != handshakes {
		t.Errorf("%d datagrams of DTLS more", got-handshakes)
	}
	if st := m.svc.Stats(); st.Resumes != 1 || st.Joins != 2 {
		t.Errorf("%+v", st)
	}
}

// Requests that are under way when the connection breaks, again and again, are each executed once, in order.
func TestRequestsOverBrokenConnections(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	p := newProxy(t, m.server)
	ann := m.join("Ann", with(publish(microphone), through(p)))
	bob := m.join("Bob", nil)
	const toggles = 60
	var cutting sync.WaitGroup
	for i := range toggles {
		if i%6 == 5 {
			cutting.Go(func() { p.cut(false) })
		}
		must(t, "mute", func(ctx context.Context) error { return ann.Mute(ctx, ann.Local(wire.Microphone), i%2 == 0) })
	}
	cutting.Wait()
	for i := range toggles {
		if e := event[*wire.TrackMuted](bob, nil); e.Muted != (i%2 == 0) {
			t.Fatalf("change %d: muted %t", i, e.Muted)
		}
	}
	for i := range toggles {
		if e := event[*wire.TrackMuted](ann, nil); e.Muted != (i%2 == 0) {
			t.Fatalf("change %d as Ann sees it: muted %t", i, e.Muted)
		}
	}
	if m.svc.Stats().Resumes == 0 {
		t.Error("no connection was broken")
	}
}

// Who does not come back in time has lost the seat, and both sides say so.
func TestSeatExpires(t *testing.T) {
	t.Parallel()
	m := newServer(t, func(cfg *signaling.Config) { cfg.ResumeWindow = 300 * time.Millisecond }).open(t)
	p := newProxy(t, m.server)
	ann := m.join("Ann", through(p))
	bob := m.join("Bob", nil)
	p.cut(true)
	// Whichever side is quicker: Ann gives up after the same time, and closes her media with that, which is to leave.
	if e := event[*wire.Left](bob, nil); e.Participant != ann.Participant() || e.Reason != wire.LeftExpired && e.Reason != wire.LeftLeave {
		t.Errorf("event %+v", e)
	}
	receive(t, "end of Ann", closing(ann))
	if err := ann.Err(); !errors.Is(err, client.ErrSeatLost) {
		t.Errorf("Ann ends with %v", err)
	}
}

// A server that has forgotten the seat (it was restarted, say) is believed at once.
func TestSeatForgotten(t *testing.T) {
	t.Parallel()
	m := newServer(t, func(cfg *signaling.Config) { cfg.ResumeWindow = time.Minute }).open(t)
	other := newServer(t, nil)
	p := newProxy(t, m.server)
	ann := m.join("Ann", with(through(p), func(cfg *client.Config) { cfg.TLS = insecure(cfg.TLS) }))
	p.redirect(other)
	receive(t, "end of Ann", closing(ann))
	if err := ann.Err(); !errors.Is(err, client.ErrSeatLost) || !errors.Is(err, &wire.Error{Code: wire.SessionGone}) {
		t.Errorf("Ann ends with %v", err)
	}
}

// Close ends media and socket, Leave says goodbye before. The others see the same, and need not wait for the seat to expire: media
// that is closed says so. Both may come twice.
func TestCloseAndLeave(t *testing.T) {
	t.Parallel()
	m := newServer(t, func(cfg *signaling.Config) { cfg.ResumeWindow = time.Minute }).open(t)
	bob := m.join("Bob", nil)
	ann := m.join("Ann", publish(camera))
	if err := ann.Close(); err != nil {
		t.Error(err)
	}
	if err := ann.Err(); !errors.Is(err, client.ErrClosed) {
		t.Errorf("ends with %v", err)
	}
	if e := event[*wire.Left](bob, nil); e.Participant != ann.Participant() || e.Reason != wire.LeftLeave {
		t.Errorf("event %+v", e)
	}
	cat := m.join("Cat", nil)
	must(t, "leave", cat.Leave)
	if e := event[*wire.Left](bob, nil); e.Reason != wire.LeftLeave {
		t.Errorf("event %+v", e)
	}
	if err := cat.Leave(t.Context()); !errors.Is(err, client.ErrClosed) {
		t.Errorf("second leave: %v", err)
	}
	if _, err := cat.Chat(t.Context(), "hello?"); !errors.Is(err, client.ErrClosed) {
		t.Errorf("chat after the end: %v", err)
	}
}

// usernames notes what ICE calls itself: the part of the username that the server chose changes with a restart.
type usernames struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (u *usernames) note(b []byte) bool {
	if len(b) < 20 || b[0] != 0 || b[1] != 1 { // a Binding request
		return false
	}
	for rest := b[20:]; len(rest) >= 4; {
		kind, n := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		if len(rest) < 4+n {
			return false
		}
		if kind == 6 { // USERNAME (RFC 8489 §14.3)
			u.mu.Lock()
			defer u.mu.Unlock()
			if u.seen == nil {
				u.seen = map[string]bool{}
			}
			u.seen[string(rest[4:4+n])] = true
			return false
		}
		rest = rest[4+(n+3)&^3:]
	}
	return false
}

func (u *usernames) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.seen)
}

// An ICE restart changes the credentials under a running call, which goes on, both ways, without a new handshake. The server's
// candidates stay, and so does the client's socket.
func TestRestart(t *testing.T) {
	t.Parallel()
	for name, owned := range map[string]bool{"own sockets": false, "one socket": true} {
		t.Run(name, func(t *testing.T) {
			m := newMeeting(t)
			names := &usernames{}
			change := func(*client.Config) {}
			if owned {
				change = socket(t, nil, names.note)
			}
			ann := m.join("Ann", with(publish(camera), auto, change))
			bob := m.join("Bob", with(publish(camera), auto))
			talk(t, ann.Local(wire.Camera), nil)
			talk(t, bob.Local(wire.Camera), nil)
			toBob, toAnn := bob.stream(wire.Camera), ann.stream(wire.Camera)
			continuous(t, read(t, toBob, 10), videoClock)
			continuous(t, read(t, toAnn, 10), videoClock)
			handshakes := m.stats().Transport.DTLSIn
			before := names.count()
			must(t, "restart", ann.Restart)
			// What pion drops while it has no pair is repaired.
			whole(t, toBob, 100)
			whole(t, toAnn, 100)
			if owned {
				eventually(t, "checks with new credentials", func() bool { return names.count() > before })
			}
			whole(t, toBob, 100)
			whole(t, toAnn, 100)
			if got := m.stats().Transport.DTLSIn; got != handshakes {
				t.Errorf("%d datagrams of DTLS more", got-handshakes)
			}
			must(t, "connected", ann.Connected)
		})
	}
}

// moving is a socket whose address changes, as when a telephone leaves the house.
type moving struct {
	addr   net.Addr // of the first; pion wants it never to change
	now    atomic.Pointer[net.UDPConn]
	closed atomic.Bool
}

func newMoving(t *testing.T) *moving {
	m := &moving{}
	m.move(t)
	m.addr = m.now.Load().LocalAddr()
	return m
}

func (m *moving) move(t *testing.T) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if old := m.now.Swap(conn); old != nil {
		_ = old.Close()
	}
}

func (m *moving) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		conn := m.now.Load()
		n, from, err := conn.ReadFrom(b)
		if err == nil || m.closed.Load() || conn == m.now.Load() {
			return n, from, err
		}
	}
}

func (m *moving) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := m.now.Load().WriteTo(b, to)
	if errors.Is(err, net.ErrClosed) && !m.closed.Load() {
		return len(b), nil // lost on the move
	}
	return n, err
}

func (m *moving) Close() error {
	m.closed.Store(true)
	return m.now.Load().Close()
}

func (m *moving) LocalAddr() net.Addr                 { return m.addr }
func (m *moving) SetDeadline(at time.Time) error      { return m.now.Load().SetDeadline(at) }
func (m *moving) SetReadDeadline(at time.Time) error  { return m.now.Load().SetReadDeadline(at) }
func (m *moving) SetWriteDeadline(at time.Time) error { return m.now.Load().SetWriteDeadline(at) }

// A client whose address changes restarts ICE, and the call goes on at the new address: the packets lost in between are repaired.
func TestNetworkChange(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	way := newMoving(t)
	ann := m.join("Ann", publish(camera))
	bob := m.join("Bob", with(auto, func(cfg *client.Config) { cfg.Conn = way }))
	talk(t, ann.Local(wire.Camera), nil)
	stream := bob.stream(wire.Camera)
	continuous(t, read(t, stream, 10), videoClock)
	handshakes := m.stats().Transport.DTLSIn
	way.move(t)
	must(t, "restart", bob.Restart)
	whole(t, stream, 200)
	if got := m.stats().Transport.DTLSIn; got != handshakes {
		t.Errorf("%d datagrams of DTLS more", got-handshakes)
	}
}
