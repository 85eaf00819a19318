package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/sotto-edge/sotto/signaling/wire"
)

// Times of the connection.
const (
	writeTimeout = 10 * time.Second
	dialTimeout  = 5 * time.Second
	firstDelay   = 50 * time.Millisecond // before the second attempt to come back; the first is made at once
	longestDelay = 2 * time.Second
)

// maxServerFrame bounds one frame of the server: an offer of fifty sections has 60 KiB, a roster of five hundred people more.
const maxServerFrame = 8 << 20

// link is the WebSocket over all its connections: requests with their replies, events without a gap.
type link struct {
	c       *Client
	session string
	secret  string        // that resume needs
	window  time.Duration // how long the seat waits
	beat    time.Duration
	lastSeq atomic.Int64

	// writing orders frames on the socket by their ids. It is taken before mu.
	writing sync.Mutex

	mu      sync.Mutex
	conn    *websocket.Conn // nil while there is none
	id      int64           // of the newest request
	pending map[int64]*call
	end     error // why there will be no other connection
}

// call is a request under way.
type call struct {
	frame []byte
	reply chan result // takes one
}

type result struct {
	reply wire.Reply
	err   error
}

func newLink(c *Client) *link { return &link{c: c, pending: map[int64]*call{}} }

// open connects and joins.
func (l *link) open(ctx context.Context, r *wire.Join) (*wire.JoinOK, error) {
	conn, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := l.first(ctx, conn, r)
	if err != nil {
		_ = conn.CloseNow()
		return nil, err
	}
	joined, ok := reply.(*wire.JoinOK)
	if !ok {
		_ = conn.CloseNow()
		return nil, fmt.Errorf("client: join answered by %s", reply.Kind())
	}
	l.session, l.secret = joined.Session, joined.ResumeToken
	l.window = time.Duration(joined.ResumeWindowMs) * time.Millisecond
	l.beat = cmp.Or(time.Duration(joined.HeartbeatMs)*time.Millisecond, 10*time.Second)
	l.conn = conn
	return joined, nil
}

func (l *link) dial(ctx context.Context) (*websocket.Conn, error) {
	conn, resp, err := websocket.Dial(ctx, l.c.base.String()+"/ws", &websocket.DialOptions{
		HTTPClient: l.c.http, Subprotocols: []string{wire.Subprotocol},
	})
	if err != nil {
		return nil, fmt.Errorf("client: connect: %w", cmp.Or(refusal(resp), err))
	}
	conn.SetReadLimit(maxServerFrame)
	return conn, nil
}

// refusal returns what an HTTP answer says instead of the handshake, nil if it says nothing.
func refusal(resp *http.Response) error {
	if resp == nil || resp.Body == nil {
		return nil
	}
	text, err := io.ReadAll(resp.Body)
	var body wire.HTTPError
	if err != nil || json.Unmarshal(text, &body) != nil || body.Error.Code == "" {
		return nil
	}
	return &body.Error
}

// first makes the first request of a connection and reads until its reply, which comes before any event.
func (l *link) first(ctx context.Context, conn *websocket.Conn, r wire.Request) (wire.Reply, error) {
	l.mu.Lock()
	l.id++
	id := l.id
	l.mu.Unlock()
	frame, err := wire.EncodeRequest(id, r)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if err := conn.Write(ctx, websocket.MessageText, frame); err != nil {
		return nil, fmt.Errorf("client: %s: %w", r.Kind(), err)
	}
	_, text, err := conn.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: %s: %w", r.Kind(), err)
	}
	f, err := wire.DecodeServer(text)
	if err != nil {
		return nil, fmt.Errorf("client: %s: %w", r.Kind(), err)
	}
	if f.Reply == nil || f.Re != id {
		return nil, fmt.Errorf("client: %s answered by %s", r.Kind(), f.Kind)
	}
	if failure, ok := f.Reply.(*wire.Failure); ok {
		return nil, fmt.Errorf("client: %s: %w", r.Kind(), &failure.Error)
	}
	return f.Reply, nil
}

// run reads until the seat is lost, over as many connections as it takes, and says why it was.
func (l *link) run(ctx context.Context) error {
	for {
		err := l.read(ctx)
		l.mu.Lock()
		_ = l.conn.CloseNow()
		l.conn = nil
		end := l.end
		l.mu.Unlock()
		if ctx.Err() != nil {
			return ErrClosed
		}
		if end = cmp.Or(verdict(err), end); end != nil {
			return end
		}
		l.c.log.Info("client: connection lost", slog.Any("error", err))
		l.c.events.put(&Dropped{Err: err})
		attempts, err := l.resume(ctx)
		if err != nil {
			return err
		}
		l.c.log.Info("client: resumed", slog.Int("attempts", attempts))
	}
}

// read takes frames until the connection breaks.
func (l *link) read(ctx context.Context) error {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		f, err := wire.DecodeServer(text)
		if err != nil {
			return err
		}
		if f.Reply != nil {
			l.replied(f.Re, f.Reply)
			continue
		}
		switch last := l.lastSeq.Load(); {
		case f.Seq <= last: // seen before the connection broke
		case f.Seq > last+1:
			return fmt.Errorf("client: event %d follows event %d", f.Seq, last)
		default:
			l.happened(f.Event)
			l.lastSeq.Store(f.Seq)
		}
	}
}

// verdict says whether the end of a connection is the end of the seat; nil: come back.
func verdict(err error) error {
	var closed websocket.CloseError
	if !errors.As(err, &closed) {
		return nil
	}
	switch closed.Code {
	case wire.CloseNormal:
		return ErrClosed
	case wire.CloseGoingAway:
		return ErrStopping
	case wire.CloseTakenOver:
		return ErrTakenOver
	case wire.CloseRemoved:
		return ErrRemoved
	case wire.CloseExpired:
		return ErrSeatLost
	case wire.CloseViolation, wire.CloseTooBig:
		return fmt.Errorf("client: cut by the server: %w", err)
	}
	return nil
}

func (l *link) happened(e wire.Event) {
	switch e := e.(type) {
	case nil: // of a newer server
		return
	case *wire.Offer:
		l.c.media.offers.put(e)
		return
	case *wire.Slots:
		l.c.media.bind(e.Slots)
	case *wire.Demand:
		l.c.media.demand(e)
	case *wire.Removed:
		l.abort(fmt.Errorf("%w: %s", ErrRemoved, e.Reason), false)
	case *wire.Closing:
		l.abort(fmt.Errorf("%w: %s", ErrStopping, e.Reason), false)
	}
	l.c.room.apply(e)
	l.c.events.put(e)
}

// abort makes the end of the connection that of the seat; cut ends it now.
func (l *link) abort(why error, cut bool) {
	l.mu.Lock()
	l.end = cmp.Or(l.end, why)
	conn := l.conn
	l.mu.Unlock()
	if cut && conn != nil {
		_ = conn.CloseNow()
	}
}

func (l *link) replied(id int64, r wire.Reply) {
	l.mu.Lock()
	waiting := l.pending[id]
	delete(l.pending, id)
	l.mu.Unlock()
	failure, failed := r.(*wire.Failure)
	switch {
	case waiting == nil && failed:
		l.c.log.Warn("client: refused", slog.Int64("id", id), slog.Any("error", &failure.Error))
	case waiting == nil:
	case failed:
		waiting.reply <- result{err: &failure.Error}
	default:
		waiting.reply <- result{reply: r}
	}
}

// request makes one request. It outlives connections: the server executes it once, however often it is sent. A request that came
// too soon after others is made again when the server says.
func (l *link) request(ctx context.Context, r wire.Request) (wire.Reply, error) {
	for {
		reply, err := l.once(ctx, r)
		var refused *wire.Error
		if !errors.As(err, &refused) || refused.Code != wire.RateLimited || refused.RetryAfterMs <= 0 {
			return reply, err
		}
		wait := time.NewTimer(time.Duration(refused.RetryAfterMs) * time.Millisecond)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil, err
		}
	}
}

func (l *link) once(ctx context.Context, r wire.Request) (wire.Reply, error) {
	waiting := &call{reply: make(chan result, 1)}
	id, err := l.send(waiting, r)
	if err != nil {
		return nil, err
	}
	select {
	case got := <-waiting.reply:
		if got.err != nil {
			return nil, fmt.Errorf("client: %s: %w", r.Kind(), got.err)
		}
		return got.reply, nil
	case <-ctx.Done():
		l.mu.Lock()
		delete(l.pending, id)
		l.mu.Unlock()
		return nil, fmt.Errorf("client: %s: %w", r.Kind(), ctx.Err())
	}
}

func (l *link) send(waiting *call, r wire.Request) (int64, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	if l.pending == nil {
		err := l.end
		l.mu.Unlock()
		return 0, fmt.Errorf("client: %s: %w", r.Kind(), err)
	}
	l.id++
	id, conn := l.id, l.conn
	frame, err := wire.EncodeRequest(id, r)
	if err != nil {
		l.mu.Unlock()
		return 0, fmt.Errorf("client: %w", err)
	}
	waiting.frame = frame
	l.pending[id] = waiting
	l.mu.Unlock()
	if conn != nil {
		l.write(conn, frame) // when it fails the reader sees it too, and resume sends it again
	}
	return id, nil
}

// write sends one frame. The caller's own time limit must not end the connection for everybody, so that it is not used.
func (l *link) write(conn *websocket.Conn, frame []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageText, frame); err != nil {
		l.c.log.Debug("client: write", slog.Any("error", err))
	}
}

// fail ends every request, now and later.
func (l *link) fail(err error) {
	l.mu.Lock()
	pending := l.pending
	l.pending, l.end = nil, cmp.Or(l.end, err)
	l.mu.Unlock()
	for _, waiting := range pending {
		waiting.reply <- result{err: err}
	}
}

// resume connects until the server has the seat again, or does not keep it any more.
func (l *link) resume(ctx context.Context) (attempts int, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.window)
	defer cancel()
	delay := time.Duration(0)
	for {
		wait := time.NewTimer(delay)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return attempts, fmt.Errorf("%w: %w", ErrSeatLost, cmp.Or(err, ctx.Err()))
		}
		attempts++
		var conn *websocket.Conn
		if conn, err = l.again(ctx); err == nil {
			l.c.events.put(&Resumed{Attempts: attempts})
			l.resend(conn)
			return attempts, nil
		}
		var refused *wire.Error
		if errors.As(err, &refused) && refused.RetryAfterMs == 0 {
			if refused.Code == wire.SessionGone {
				return attempts, fmt.Errorf("%w: %w", ErrSeatLost, err)
			}
			return attempts, err
		}
		delay = min(max(2*delay, firstDelay), longestDelay)
		delay += rand.N(delay / 4) // clients of one server do not come back in step
	}
}

// again makes one attempt to come back.
func (l *link) again(ctx context.Context) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	_, err = l.first(ctx, conn, &wire.Resume{
		Version: wire.Version, Session: l.session, ResumeToken: l.secret, LastSeq: l.lastSeq.Load(),
	})
	if err != nil {
		_ = conn.CloseNow()
		return nil, err
	}
	return conn, nil
}

// resend makes conn the connection, and sends what has no reply yet.
func (l *link) resend(conn *websocket.Conn) {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	l.conn = conn
	var frames [][]byte
	for _, id := range slices.Sorted(maps.Keys(l.pending)) {
		frames = append(frames, l.pending[id].frame)
	}
	l.mu.Unlock()
	for _, f := range frames {
		l.write(conn, f)
	}
}

// heartbeat finds a connection that is dead without a word, and tells the server which events it may forget.
func (l *link) heartbeat(ctx context.Context) {
	every := time.NewTicker(l.beat)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		l.mu.Lock()
		conn := l.conn
		l.mu.Unlock()
		if conn == nil {
			continue
		}
		timed, cancel := context.WithTimeout(ctx, l.beat)
		_, err := l.once(timed, &wire.Ping{LastSeq: l.lastSeq.Load()})
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			_ = conn.CloseNow() // the reader comes back
		}
	}
}
