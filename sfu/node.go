// Package sfu is the selective forwarding unit as the front doors see it: conferences, the endpoints of their participants, what
// each publishes and which slots show it.
//
// It owns the shards (one locked thread each, with its socket, its sessions and their media) and the order of offers: the server
// offers, numbers its offers, and has one outstanding at a time. It promises that every method may be called from any goroutine,
// that events come in order from one goroutine, and that Close returns when every goroutine it started is gone.
//
// It knows no SDP text, no names, no roles and no permissions: those are of package signaling. It holds hop-by-hop keys only.
package sfu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/handshake"
)

// Errors that callers match.
var (
	ErrClosed           = errors.New("sfu: closed")
	ErrNotFound         = errors.New("sfu: no such track or endpoint")
	ErrConflict         = errors.New("sfu: the participant publishes this source already")
	ErrAway             = errors.New("sfu: another node has the conference")
	ErrStaleOffer       = errors.New("sfu: the answer is not to the outstanding offer")
	ErrBadAnswer        = errors.New("sfu: the answer does not fit its offer")
	ErrTooMany          = errors.New("sfu: too many")
	ErrUnsupportedCodec = errors.New("sfu: unknown codec")
)

// Observer takes the events of a Node, in order, from one goroutine. It must not block.
type Observer interface{ Event(Event) }

type nobody struct{}

func (nobody) Event(Event) {}

// Config is what a Node is made of. The zero value listens on every address with a port of the system's choice.
type Config struct {
	// Listen is the address of the one UDP port.
	Listen netip.AddrPort
	// Public are addresses to offer besides (or, behind NAT, instead of) the ones the machine has; port 0 stands for the port that
	// is listened on.
	Public []netip.AddrPort
	// OnlyPublic leaves the machine's own addresses out of the offers.
	OnlyPublic bool
	// Standby are the media ports of nodes that may take sessions over, next one first. They are offered above this node's own
	// candidates and not nominated.
	Standby []netip.AddrPort
	// NodeID and Secret are shared knowledge of a cluster: which node a session began on, and the key that tells its own user
	// name fragments from garbage. A zero Secret is replaced by a random one.
	NodeID uint16
	Secret transport.UfragKey
	// Observer hears of what happens.
	Observer Observer
	// MaxSessions bounds the endpoints of the node (0: 4096), MaxEndpoints those of one conference (0: 500).
	MaxSessions, MaxEndpoints int
	// Buffers bounds the packet buffers of a shard (0: 65536, 128 MiB when all are in use).
	Buffers int
	// ReceiveBuffer and SendBuffer are the socket buffers in bytes (0: 4 MiB).
	ReceiveBuffer, SendBuffer int
	// NoGSO and NoGRO turn segmentation offload off.
	NoGSO, NoGRO bool
}

func (c *Config) defaults() {
	if !c.Listen.IsValid() {
		c.Listen = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	}
	if c.Observer == nil {
		c.Observer = nobody{}
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = 4096
	}
	if c.MaxEndpoints == 0 {
		c.MaxEndpoints = 500
	}
	if c.Buffers == 0 {
		c.Buffers = 65536
	}
	if c.ReceiveBuffer == 0 {
		c.ReceiveBuffer = 4 << 20
	}
	if c.SendBuffer == 0 {
		c.SendBuffer = 4 << 20
	}
}

// Node forwards the media of many conferences.
type Node struct {
	cfg   Config
	log   *slog.Logger
	shard *shard
	dtls  *handshake.Pool
	mail  mailbox

	closeOnce sync.Once
	threads   sync.WaitGroup
	started   time.Time
}

// NewNode opens the media port and starts forwarding. The caller closes the Node.
func NewNode(cfg Config, log *slog.Logger) (*Node, error) {
	cfg.defaults()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	sock, err := udp.Listen(udp.Config{
		Listen: cfg.Listen, ReceiveBuffer: cfg.ReceiveBuffer, SendBuffer: cfg.SendBuffer, NoGSO: cfg.NoGSO, NoGRO: cfg.NoGRO,
	})
	if err != nil {
		return nil, fmt.Errorf("sfu: open the media port: %w", err)
	}
	n := &Node{cfg: cfg, log: log, started: time.Now()}
	n.mail.init()
	if err := n.start(sock); err != nil {
		_ = sock.Close()
		return nil, err
	}
	return n, nil
}

// LocalAddr returns the address of the media port.
func (n *Node) LocalAddr() netip.AddrPort { return n.shard.sock.LocalAddr() }

// Candidates returns what is offered to clients.
func (n *Node) Candidates() []Candidate { return n.shard.candidates }

// Features says which kernel help the media port has.
func (n *Node) Features() udp.Features { return n.shard.sock.Features() }

// Conference returns a handle of the conference with that id. It exists while it has endpoints.
func (n *Node) Conference(id string) *Conference { return &Conference{node: n, id: id} }

// Close ends all conferences, says goodbye to their sessions and returns when nothing of the Node runs any more.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		_ = n.shard.do(context.Background(), func(now int64) error {
			for _, c := range n.shard.conferences {
				c.close(now)
			}
			return nil
		})
		_ = n.dtls.Close()
		n.shard.stop()
		n.threads.Wait()
	})
	return nil
}

// Halt ends the node as a crash would, but for its own goroutines: nothing more is sent, not even a goodbye, so that the nodes that
// stand by for its conferences can go on with them. It is for a node that its cluster has struck, and for tests of that.
func (n *Node) Halt() error {
	_ = n.shard.do(context.Background(), func(int64) error {
		for _, c := range n.shard.conferences {
			c.freeze()
		}
		return nil
	})
	return n.Close()
}

// emit queues an event for the observer.
func (n *Node) emit(e Event) { n.mail.put(e) }

// deliver hands events to the observer until the mailbox is closed and empty.
func (n *Node) deliver() {
	defer n.threads.Done()
	for {
		batch, ok := n.mail.take()
		for _, e := range batch {
			n.cfg.Observer.Event(e)
		}
		if !ok {
			return
		}
	}
}

// mailbox is an unbounded queue of events: the shard's thread must never wait for a reader. What fills it is bounded by what
// participants may do.
type mailbox struct {
	mu     sync.Mutex
	cond   *sync.Cond
	events []Event
	closed bool
}

func (m *mailbox) init() { m.cond = sync.NewCond(&m.mu) }

func (m *mailbox) put(e Event) {
	m.mu.Lock()
	m.events = append(m.events, e)
	m.mu.Unlock()
	m.cond.Signal()
}

// take waits for events. The last batch comes with false.
func (m *mailbox) take() ([]Event, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.events) == 0 && !m.closed {
		m.cond.Wait()
	}
	batch := m.events
	m.events = nil
	return batch, !m.closed
}

func (m *mailbox) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cond.Broadcast()
}

// Stats is a snapshot of a Node.
type Stats struct {
	Conferences, Endpoints int
	Forward                forward.Counters
	Transport              transport.Counters
	Socket                 udp.Stats
	BuffersInUse           int
}

// Stats returns the figures of now.
func (n *Node) Stats(ctx context.Context) (Stats, error) {
	var st Stats
	err := n.shard.do(ctx, func(int64) error {
		s := n.shard
		st.Conferences = len(s.conferences)
		for _, c := range s.conferences {
			st.Endpoints += len(c.endpoints)
		}
		st.Forward = s.router.Counters
		st.Transport = s.mux.Counters()
		st.BuffersInUse = s.pool.InUse()
		return nil
	})
	st.Socket = n.shard.sock.Stats()
	return st, err
}
