package signaling

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sotto-edge/sotto/signaling/wire"
)

// Link is one connection of a client, whatever carries its frames. The front door makes it with Connect, says with Carry how
// frames are sent, gives what it reads to Receive (from one goroutine), and calls Disconnect once when it has read its last.
type Link struct {
	svc    *Service
	remote string

	// Of the goroutine that calls Receive.
	session *Session
	strikes *rate.Limiter

	// mu is a leaf: it may be taken with a room's lock held, and nothing is taken or called with it held.
	mu       sync.Mutex
	out      [][]byte
	bytes    int
	most     int // frames in out before the connection counts as too slow
	mostSize int // and bytes
	closing  *Closing
	joined   bool
	carrier  Carrier
	carrying chan struct{} // closed by the goroutine that sends when it ends; nil: there is none
	deadline *time.Timer
}

// Carrier sends frames, or closes the connection in the way it is told. With an error it says that nothing more can be sent. It
// is called by one goroutine at a time.
type Carrier func(frames [][]byte, closing *Closing) error

// Closing says how a connection is to be closed.
type Closing struct {
	Code   int // of the WebSocket close frame
	Reason string
}

// strikes are how many malformed or refused frames a connection may send before it is cut: a burst, then some per second.
const (
	strikeBurst     = 30
	strikePerSecond = 1
)

// Connect takes a new connection of a client with that address.
func (s *Service) Connect(remote string) (*Link, error) {
	l := &Link{
		svc: s, remote: remote, strikes: rate.NewLimiter(strikePerSecond, strikeBurst),
		most: s.cfg.QueuedEvents, mostSize: queuedBytes / 2,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopping:
		return nil, &wire.Error{Code: wire.TooMany, Message: "the server stops", Hint: "try again later", RetryAfterMs: s.retryAfterMs}
	case len(s.links) >= s.cfg.Links || s.waiting >= s.cfg.WaitingLinks:
		return nil, &wire.Error{Code: wire.TooMany, Message: "the server has too many connections", Hint: "try again later", RetryAfterMs: 5000}
	}
	s.links[l] = struct{}{}
	s.waiting++
	l.deadline = time.AfterFunc(s.cfg.JoinTimeout, l.late)
	return l, nil
}

func (l *Link) late() {
	l.mu.Lock()
	joined := l.joined
	l.mu.Unlock()
	if !joined {
		l.shut(wire.CloseViolation, "no join in time")
	}
}

// Receive handles one frame of the client.
func (l *Link) Receive(ctx context.Context, frame []byte) {
	f, refusal := wire.Decode(frame)
	if refusal != nil {
		l.reply(f.ID, &wire.Failure{Error: *refusal})
		l.strike()
		return
	}
	if l.session != nil {
		l.session.handle(l, f)
		return
	}
	var err *wire.Error
	switch r := f.Request.(type) {
	case *wire.Join:
		err = l.svc.join(ctx, l, f.ID, r)
	case *wire.Resume:
		err = l.svc.resume(l, f.ID, r)
	default:
		err = refuse(wire.BadRequest, "the first request must be join or resume", "")
	}
	if err != nil {
		l.reply(f.ID, &wire.Failure{Error: *err})
		l.strike()
	}
}

// Carry has c called from now on whenever there is something to send. The goroutine that calls it is the Link's and lives as long
// as there is: of a connection on which nothing happens it costs nothing.
func (l *Link) Carry(c Carrier) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.carrier = c
	l.signal()
}

// Take returns what is to be sent: frames first and, when there are none left and the connection is to be closed, how. It answers
// false when there is nothing. With a Carrier it is not for others to call.
func (l *Link) Take() (frames [][]byte, closing *Closing, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take()
}

func (l *Link) take() (frames [][]byte, closing *Closing, ok bool) {
	frames = l.out
	l.out, l.bytes = nil, 0
	if len(frames) > 0 {
		return frames, nil, true
	}
	return nil, l.closing, l.closing != nil
}

// carry sends until there is nothing left.
func (l *Link) carry(done chan struct{}) {
	defer close(done)
	for {
		l.mu.Lock()
		send := l.carrier
		frames, closing, ok := l.take()
		if send == nil || !ok {
			l.carrying = nil
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		if err := send(frames, closing); err != nil || closing != nil {
			l.mu.Lock()
			l.carrier, l.carrying = nil, nil
			l.mu.Unlock()
			return
		}
	}
}

// Disconnect says that the connection is gone, so that a Carrier cannot be at work for long, and waits for it. The seat is kept
// for the resume window.
func (l *Link) Disconnect() {
	l.mu.Lock()
	l.carrier = nil
	carrying := l.carrying
	l.mu.Unlock()
	if carrying != nil {
		<-carrying
	}
	l.shut(wire.CloseNormal, "")
	l.deadline.Stop()
	if l.session != nil {
		l.session.detach(l)
	}
	l.svc.disconnected(l)
}

// seated marks the connection as joined. Called with the room's lock held.
func (l *Link) seated() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.joined = true
}

// linger queues frames that can wait for others, or for the next stir.
func (l *Link) linger(frame []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue(frame)
}

// stir has what lingers sent.
func (l *Link) stir() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.out) > 0 {
		l.signal()
	}
}

// push queues frames, to be sent at once. One that lags too far behind is cut: its events are in the session's log and come again on resume.
func (l *Link) push(frames ...[]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue(frames...)
	l.signal()
}

// queue is called with the lock held.
func (l *Link) queue(frames ...[]byte) {
	if l.closing != nil {
		return
	}
	for _, f := range frames {
		l.out = append(l.out, f)
		l.bytes += len(f)
	}
	if len(l.out) > l.most || l.bytes > l.mostSize {
		l.out, l.bytes = nil, 0
		l.closing = &Closing{wire.CloseSlow, "read too slowly"}
		l.svc.counters.slow.Add(1)
		l.signal()
	}
}

// replay queues what a resumed connection has missed, which does not count as lagging behind.
func (l *Link) replay(frames [][]byte) {
	l.mu.Lock()
	for _, f := range frames {
		l.most++
		l.mostSize += len(f)
	}
	l.mu.Unlock()
	l.push(frames...)
}

// shut has the connection closed once everything queued is sent. The first call counts.
func (l *Link) shut(code int, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing == nil {
		l.closing = &Closing{code, reason}
		l.signal()
	}
}

// signal sees to it that somebody sends. Called with the lock held.
func (l *Link) signal() {
	if l.carrier != nil && l.carrying == nil {
		l.carrying = make(chan struct{})
		go l.carry(l.carrying)
	}
}

func (l *Link) reply(id int64, r wire.Reply) {
	if frame, ok := l.svc.encode(id, r); ok {
		l.push(frame)
	}
}

// strike counts an offence; the connection is cut when there are too many.
func (l *Link) strike() {
	if !l.strikes.Allow() {
		l.svc.counters.violations.Add(1)
		l.shut(wire.CloseViolation, "too many refused requests")
	}
}

func (s *Service) encode(id int64, r wire.Reply) ([]byte, bool) {
	frame, err := wire.EncodeReply(id, r)
	if err != nil {
		s.log.Error("signaling: encode a reply", slog.Any("error", err))
	}
	return frame, err == nil
}

// properName returns the name with the space around it cut off, or says why it cannot be shown.
func properName(name string) (string, *wire.Error) {
	name = strings.TrimSpace(name)
	if name == "" {
		return "", refuse(wire.BadRequest, "field name: want a name", "")
	}
	for _, r := range name {
		if unprintable(r) {
			return "", refuse(wire.BadRequest, "field name holds a control character", "")
		}
	}
	return name, nil
}

// unprintable finds what could make a line look like something else: control characters, line ends, and marks that turn the
// direction of the text behind them. Joiners stay: many scripts and emoji need them.
func unprintable(r rune) bool {
	switch {
	case r < ' ', r >= 0x7f && r < 0xa0:
		return true
	case r == 0x2028, r == 0x2029, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0xfeff, r == 0xfffd:
		return true
	}
	return false
}
