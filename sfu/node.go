// Package sfu is the selective forwarding unit as the front doors see it: conferences, the endpoints of their participants, what
// each publishes and which slots show it.
//
// It owns the shards (one goroutine each, with its socket, its sessions and their media) and the order of offers: the server
// offers, numbers its offers, and has one outstanding at a time. It promises that every method may be called from any goroutine,
// that events come in order from one goroutine, and that Close returns when every goroutine it started is gone.
//
// Control and media are apart. Who is in a conference, what is published, wanted and offered is the conference's, under its lock,
// in the caller's goroutine: many joins at once take no time from media. Packets, and all that they touch, are their shard's; control
// asks it for what it needs by call, and tells it the rest by post. A shard never waits: what control has to know (a transport's
// state, a first packet, who is how loud) it leaves in a mailbox, which one goroutine empties.
//
// It knows no SDP text, no names, no roles and no permissions: those are of package signaling. It holds hop-by-hop keys only.
package sfu

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/data"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/record"
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
	ErrBadOffer         = errors.New("sfu: the offer cannot be answered")
	ErrNoRecorder       = errors.New("sfu: this node does not record")
	ErrRecording        = errors.New("sfu: the conference is being recorded already")
	ErrNotRecording     = errors.New("sfu: the conference is not being recorded")
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
	// Recorder writes conferences to disk that are to be recorded; nil: none is. It is the caller's to close, after the Node.
	Recorder *record.Recorder
	// Shards is the number of threads that forward media, each with a socket on the one port; 0: one for each core.
	Shards int
	// Together is how many endpoints a conference has on one shard before it spreads over the others (0: 64). Packets that cross
	// cost; so does a core that has too much.
	Together int
	// Loudest is how many participants are heard at a time by one who wants to hear more, Videos how many pictures are sent to one
	// (0: 3 and 24).
	Loudest, Videos int
	// NoData refuses data channels to everybody; Data bounds them.
	NoData bool
	Data   data.Config
	// Beside lets datagrams come and go by other ways than the socket: Carry and Deliver. Relay has what is TURN on the media port wait
	// for the reader of RelayPort.
	Beside, Relay bool
	// StreamPort is a TCP port at which clients reach the Carrier of udp.Stream, at the addresses that are offered for UDP; 0: none.
	StreamPort uint16
	// Steering brings datagrams to their shard; nil stands for the program on the sockets.
	Steering Steering
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
	if c.Shards <= 0 {
		c.Shards = runtime.GOMAXPROCS(0)
	}
	if c.Together == 0 {
		c.Together = 64
	}
	if c.Loudest == 0 {
		c.Loudest = 3
	}
	if c.Videos == 0 {
		c.Videos = 24
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
	cfg         Config
	log         *slog.Logger
	shards      []*shard
	candidates  []Candidate
	fingerprint Fingerprint // of the certificate of every shard
	epoch       time.Time   // zero of the packet clock, which all shards share

	places   directory
	carried  *outbound // nil without Beside
	relayed  *outbound // nil without Relay
	carriers [udp.Ways]atomic.Pointer[Carrier]
	data     *data.Hub
	mail     mailbox[Event]
	notices  mailbox[notice]

	mu          sync.Mutex // taken under a conference's lock, never the other way round
	conferences map[string]*conference
	sessions    int
	loads       []load
	sampled     []int64 // how long each shard had worked …
	sampledAt   int64   // … at this time
	placement   Placement
	closed      bool

	unsettled atomic.Int64 // shards with a session that is about to find its way

	closing   chan struct{}
	steered   atomic.Int64 // addresses
	steerers  sync.WaitGroup
	assessor  sync.WaitGroup
	scores    scores
	closeOnce sync.Once
	threads   sync.WaitGroup // of the shards
	helpers   sync.WaitGroup // deliver, listen and carry
}

// NewNode opens the media port and starts forwarding. The caller closes the Node.
func NewNode(cfg Config, log *slog.Logger) (*Node, error) {
	cfg.defaults()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	n := &Node{cfg: cfg, log: log, epoch: time.Now(), conferences: make(map[string]*conference), closing: make(chan struct{})}
	n.data = data.NewHub(cfg.Data, n.dataClosed)
	n.places.init()
	n.mail.init()
	n.notices.init()
	if err := n.start(); err != nil {
		n.abandon()
		return nil, err
	}
	return n, nil
}

// start opens the port and makes the shards, and only then starts what runs.
func (n *Node) start() error {
	if err := n.listenUDP(); err != nil {
		return fmt.Errorf("sfu: open the media port: %w", err)
	}
	n.loads, n.sampled = make([]load, len(n.shards)), make([]int64, len(n.shards))
	for _, s := range n.shards {
		s.in, s.out = make([]*forward.Link, len(n.shards)), make([]*forward.Link, len(n.shards))
	}
	for i, s := range n.shards {
		for j, to := range n.shards {
			if i != j {
				l := forward.NewLink(max(minLink, linkRoom/(len(n.shards)-1)))
				s.out[j], to.in[i] = l, l
			}
		}
	}
	n.openBeside()
	cands, err := candidates(&n.cfg, n.LocalAddr())
	if err != nil {
		return err
	}
	for _, c := range cands {
		n.candidates = append(n.candidates, Candidate{Addr: c.Addr, Priority: c.Priority, Foundation: c.Foundation, TCP: c.TCP})
	}
	cert, err := handshake.NewCertificate()
	if err != nil {
		return fmt.Errorf("sfu: %w", err)
	}
	if n.cfg.Secret.IsZero() {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		if n.cfg.Secret, err = transport.NewUfragKey(b[:]); err != nil {
			return fmt.Errorf("sfu: %w", err)
		}
	}
	for _, s := range n.shards {
		if err := s.open(cands, cert); err != nil {
			return fmt.Errorf("sfu: %w", err)
		}
	}
	fp := n.shards[0].dtls.Fingerprint()
	n.fingerprint = Fingerprint{Algorithm: fp.Algorithm(), Value: fp.Value()}
	if n.cfg.Steering == nil {
		n.cfg.Steering = n.shards[0].sock
	}
	if len(n.shards) > 1 {
		n.steerers.Add(1)
		go n.steer()
	}
	n.assessor.Add(1)
	go n.assess()
	n.helpers.Add(2)
	go n.deliver()
	go n.listen()
	if n.carried != nil {
		n.helpers.Add(1)
		go n.carry()
	}
	for _, s := range n.shards {
		n.threads.Add(1)
		s.born = n.now()
		go s.run()
	}
	return nil
}

// Room for what crosses, in parcels of 2 KiB: as much as one shard is sent in some tens of milliseconds, in links from all others.
const (
	linkRoom = 1024
	minLink  = 64
)

// listenUDP opens a socket for each shard, all on the one port. Where the system does not spread what comes over several, there is
// one shard.
func (n *Node) listenUDP() error {
	group, err := udp.ListenGroup(udp.Config{
		Listen: n.cfg.Listen, ReceiveBuffer: n.cfg.ReceiveBuffer, SendBuffer: n.cfg.SendBuffer, NoGSO: n.cfg.NoGSO, NoGRO: n.cfg.NoGRO,
	}, n.cfg.Shards)
	if err != nil {
		return err
	}
	n.cfg.Shards = len(group)
	for i, sock := range group {
		n.shards = append(n.shards, &shard{node: n, index: i, sock: sock})
	}
	return nil
}

// abandon closes what a failed start has opened; nothing runs yet.
func (n *Node) abandon() {
	for _, s := range n.shards {
		if s.dtls != nil {
			_ = s.dtls.Close()
		}
		_ = s.sock.Close()
	}
}

// now reads the packet clock: monotonic nanoseconds, never 0.
func (n *Node) now() int64 { return int64(time.Since(n.epoch)) + 1 }

// LocalAddr returns the address of the media port.
func (n *Node) LocalAddr() netip.AddrPort { return n.shards[0].sock.LocalAddr() }

// Candidates returns what is offered to clients.
func (n *Node) Candidates() []Candidate { return n.candidates }

// Features says which kernel help the media port has.
func (n *Node) Features() udp.Features { return n.shards[0].sock.Features() }

// Conference returns a handle of the conference with that id. It exists while it has endpoints.
func (n *Node) Conference(id string) *Conference { return &Conference{node: n, id: id} }

// Close ends all conferences, says goodbye to their sessions and returns when nothing of the Node runs any more.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		for _, c := range n.shut() {
			c.mu.Lock()
			c.stopRecording(record.Shutdown)
			c.close()
			c.mu.Unlock()
		}
		for _, s := range n.shards {
			_ = s.call(func(int64) error { return nil }) // the sessions are closed there before their associations end
			_ = s.dtls.Close()
		}
		close(n.closing)
		n.data.Close()    // its members have gone with their endpoints
		n.steerers.Wait() // it uses a socket
		n.assessor.Wait() // and this the shards
		for _, s := range n.shards {
			s.stop()
		}
		n.threads.Wait()
		n.carried.close()
		n.relayed.close()
		n.notices.close()
		n.mail.close()
		n.helpers.Wait()
	})
	return nil
}

// dataClosed says that a data channel was closed.
func (n *Node) dataClosed(conference string, c data.Closed) {
	n.mail.put(Event{Conference: conference, Participant: ParticipantID(c.Member), Type: EventData, Data: &c})
}

// shut lets no conference begin any more and returns those that there are.
func (n *Node) shut() []*conference {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	return slices.Collect(maps.Values(n.conferences))
}

// Halt ends the node as a crash would, but for its own goroutines: nothing more is sent, not even a goodbye, so that the nodes that
// stand by for its conferences can go on with them. It is for a node that its cluster has struck, and for tests of that.
func (n *Node) Halt() error {
	for _, c := range n.shut() {
		c.mu.Lock()
		c.freeze()
		c.mu.Unlock()
	}
	return n.Close()
}

// enter returns the conference with its lock held. One that is not there is made if wanted; leave ends it again if it stays empty.
func (n *Node) enter(ctx context.Context, id string, wanted bool) (*conference, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n.mu.Lock()
		c := n.conferences[id]
		switch {
		case n.closed:
			n.mu.Unlock()
			return nil, ErrClosed
		case c == nil && !wanted:
			n.mu.Unlock()
			return nil, ErrNotFound
		case c == nil:
			c = newConference(n, id)
			n.conferences[id] = c
		}
		n.mu.Unlock()
		c.mu.Lock()
		if !c.over {
			return c, nil
		}
		c.mu.Unlock() // its last endpoint has just left
	}
}

// leave gives the conference's lock back, and ends the conference if nobody is left in it.
func (c *conference) leave() {
	if len(c.endpoints) == 0 && !c.over {
		c.stopRecording(record.Emptied)
		c.over = true
		c.node.mu.Lock()
		delete(c.node.conferences, c.id)
		c.node.mu.Unlock()
	}
	c.mu.Unlock()
}

// live returns the conferences of now.
func (n *Node) live() []*conference {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Values(n.conferences))
}

// deliver hands events to the observer until the mailbox is closed and empty.
func (n *Node) deliver() {
	defer n.helpers.Done()
	for range n.mail.came {
		batch, ok := n.mail.poll()
		for _, e := range batch {
			n.cfg.Observer.Event(e)
		}
		if !ok {
			return
		}
	}
}
