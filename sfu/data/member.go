package data

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/pion/datachannel"
	"github.com/pion/sctp"
	"golang.org/x/time/rate"

	"github.com/sotto-edge/sotto/internal/silence"
)

// Member is one participant's data. Its methods may be called from any goroutine, and none of them blocks.
type Member struct {
	room *Room
	hub  *Hub
	id   string
	conn net.Conn

	ctx      context.Context // ends with Close, and with the association
	cancel   context.CancelFunc
	messages *rate.Limiter
	bytes    *rate.Limiter
	muted    atomic.Bool
	takes    atomic.Int64  // the largest message that the client takes
	wake     chan struct{} // holds one element when the writer is to look

	mu       sync.Mutex
	assoc    *sctp.Association // nil before it is there
	incoming int               // channels that the client has opened
	outgoing map[*incoming]*outgoing
	turn     []*outgoing   // the same, in the order in which they are served
	queued   int           // bytes in all of them
	streams  []uint16      // free again
	next     uint16        // not used yet
	roomier  chan struct{} // closed when there is more room
}

func newMember(r *Room, id string, conn net.Conn) *Member {
	cfg := &r.hub.cfg
	m := &Member{
		room: r, hub: r.hub, id: id, conn: conn, wake: make(chan struct{}, 1), outgoing: make(map[*incoming]*outgoing),
		messages: rate.NewLimiter(rate.Limit(cfg.MessagesPerSecond), cfg.MessagesPerSecond),
		bytes:    rate.NewLimiter(rate.Limit(cfg.BytesPerSecond), max(cfg.BytesPerSecond, cfg.MessageBytes)),
		next:     1, // the DTLS server's streams are odd (RFC 8832 §6)
		roomier:  make(chan struct{}),
	}
	m.takes.Store(defaultTakes)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// defaultTakes is what a client takes that does not say (RFC 8841 §6.1).
const defaultTakes = 64 << 10

// SetTakes says what the largest message is that the client takes; 0: any.
func (m *Member) SetTakes(n int) {
	if n <= 0 || n > m.hub.cfg.MessageBytes {
		n = m.hub.cfg.MessageBytes
	}
	m.takes.Store(int64(n))
}

// SetMuted lets nothing of what the member sends through, or everything again.
func (m *Member) SetMuted(muted bool) { m.muted.Store(muted) }

// Close ends the association. It returns before everything of it has ended; Hub.Close waits for that.
func (m *Member) Close() {
	m.cancel()
	_ = m.conn.Close()
}

// run is the life of the association.
func (m *Member) run() {
	defer m.Close()
	a, err := sctp.ServerWithOptions(
		sctp.WithNetConn(m.conn), sctp.WithMTU(mtu), sctp.WithMaxReceiveBufferSize(receiveBuffer),
		sctp.WithMaxMessageSize(uint32(m.hub.cfg.MessageBytes)), sctp.WithLoggerFactory(silence.Logger{}),
	)
	if err != nil {
		return
	}
	defer func() { _ = a.Close() }()
	m.mu.Lock()
	m.assoc = a
	m.mu.Unlock()
	m.room.add(m)
	defer m.room.remove(m)
	m.hub.work.Go(m.write)
	for {
		s, err := a.AcceptStream()
		if err != nil {
			return
		}
		full := !m.occupy() // in the order in which channels come, not in that of their goroutines
		m.hub.work.Go(func() {
			m.serve(s, full)
			m.vacate(full)
		})
	}
}

// incoming is a channel that the client has opened: others receive what comes of it.
type incoming struct {
	from  *Member
	kind  datachannel.ChannelType
	value uint32 // the parameter of kind
	label string
	proto string
}

// lossy reports whether messages may be lost.
func (c *incoming) lossy() bool {
	return c.kind != datachannel.ChannelTypeReliable && c.kind != datachannel.ChannelTypeReliableUnordered
}

// message is one message, which nobody changes any more.
type message struct {
	b    []byte
	text bool
}

// serve is the goroutine of a channel that the client has opened.
func (m *Member) serve(s *sctp.Stream, full bool) {
	defer func() { _ = s.Close() }()
	cfg := datachannel.Config{LoggerFactory: silence.Logger{}}
	dc, err := datachannel.Server(s, &cfg)
	if err != nil {
		return
	}
	c := &incoming{from: m, kind: dc.ChannelType, value: dc.ReliabilityParameter, label: dc.Label, proto: dc.Protocol}
	if reason := c.admit(full); reason != "" {
		m.hub.counters.notOpened.Add(1)
		m.told(Closed{Member: m.id, From: m.id, Label: strings.ToValidUTF8(c.label[:min(len(c.label), maxLabel)], "?"), Reason: reason})
		return
	}
	m.hub.counters.channels.Add(1)
	defer m.hub.counters.channels.Add(-1)
	defer m.gone(c)
	b := make([]byte, 4<<10)
	for {
		n, text, err := dc.ReadDataChannel(b)
		switch {
		case errors.Is(err, io.ErrShortBuffer) && len(b) < m.hub.cfg.MessageBytes:
			b = make([]byte, min(4*len(b), m.hub.cfg.MessageBytes)) // the message is still there
			continue
		case errors.Is(err, io.ErrShortBuffer):
			m.hub.counters.closedTooBig.Add(1)
			m.told(Closed{Member: m.id, From: m.id, Label: c.label, Reason: TooBig})
			return
		case err != nil:
			return
		}
		m.hub.counters.messagesIn.Add(1)
		m.hub.counters.bytesIn.Add(int64(n))
		if m.allowed(c, n) {
			m.spread(c, message{append([]byte(nil), b[:n]...), text})
		}
	}
}

// admit says why a channel is not taken; "": it is.
func (c *incoming) admit(full bool) Reason {
	switch {
	case full:
		return TooMany
	case len(c.label) > maxLabel, len(c.proto) > maxProtocol, !utf8.ValidString(c.label), !utf8.ValidString(c.proto):
		return Refused
	}
	return ""
}

// occupy counts a channel in, if there is room for it.
func (m *Member) occupy() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.incoming >= m.hub.cfg.Channels {
		return false
	}
	m.incoming++
	return true
}

func (m *Member) vacate(full bool) {
	if full {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.incoming--
}

// gone ends what others have of a channel.
func (m *Member) gone(c *incoming) {
	for _, o := range m.room.others(m) {
		o.finish(c)
	}
}

// allowed says whether a message may pass, or waits until it may.
func (m *Member) allowed(c *incoming, n int) bool {
	if m.muted.Load() {
		m.hub.counters.muted.Add(1)
		return false
	}
	if c.lossy() {
		if !m.messages.Allow() || !m.bytes.AllowN(time.Now(), n) {
			m.hub.counters.limited.Add(1)
			return false
		}
		return true
	}
	return m.messages.Wait(m.ctx) == nil && m.bytes.WaitN(m.ctx, n) == nil
}

// spread gives a message to everybody else, and waits for those who have no room for it, for as long as its patience lasts.
func (m *Member) spread(c *incoming, msg message) {
	type waiting struct {
		to   *Member
		room <-chan struct{}
	}
	var slow []waiting
	for _, to := range m.room.others(m) {
		if room := to.push(c, msg); room != nil {
			slow = append(slow, waiting{to, room})
		}
	}
	if len(slow) == 0 {
		return
	}
	patience := time.NewTimer(m.hub.cfg.Patience)
	defer patience.Stop()
	for over := false; len(slow) > 0; {
		w := &slow[0]
		if !over {
			select {
			case <-w.room:
			case <-w.to.ctx.Done():
			case <-m.ctx.Done():
				return
			case <-patience.C:
				over = true
			}
		}
		switch w.room = w.to.push(c, msg); {
		case w.room == nil:
			slow = slow[1:]
		case over:
			w.to.shed(c)
			slow = slow[1:]
		case w.to.ctx.Err() != nil:
			slow = slow[1:]
		}
	}
}

func (m *Member) told(c Closed) { m.hub.tell(m.room.id, c) }
