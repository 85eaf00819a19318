// Package failover shows what a meeting goes through when its media node changes: two nodes with a UDP port each stand behind one
// front door, and what one of them has is handed to the other while people talk.
//
// It owns the pair of nodes, the copies that go from one to the other (at every change and ten times a second, as a cluster would
// send them), and the moment of the hand-over. It promises that the standby knows a session before the client gets its first offer,
// that a client is never told to negotiate on account of a hand-over, and that Close returns when nothing of it runs any more.
//
// The signaling is the real one, in the same process, and lives on: what becomes of a client whose signaling dies with the media is
// not of this package. Copies go by a function call, not over a network, and the lease of index numbers is given, not renewed.
package failover

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/ws"
)

// Lease is the number of packets on each stream that a node may send after a copy: whoever takes over by that copy begins behind
// them (decision 5).
const Lease = 4096

// copyInterval is the time between copies when nothing changes.
const copyInterval = 100 * time.Millisecond

// Mode says how a node goes.
type Mode string

// The modes of a hand-over.
const (
	// Planned freezes the first node and hands its last state on.
	Planned Mode = "planned"
	// Crash stops the first node without a word. The second has a copy that is up to a tenth of a second old.
	Crash Mode = "crash"
)

// ErrDone says that the hand-over has been: there is no third node.
var ErrDone = errors.New("failover: handed over already")

// Config is what a Lab is made of. The zero value is on loopback.
type Config struct {
	// Address is where both media ports are, the one beside the other.
	Address netip.Addr
	// Log hears of both nodes and of the signaling.
	Log *slog.Logger
}

// Lab is the two nodes and the front door.
type Lab struct {
	first, second *sfu.Node
	svc           *signaling.Service
	door          http.Handler
	log           *slog.Logger

	relay  relay
	cancel context.CancelFunc
	work   sync.WaitGroup
	once   sync.Once

	mu       sync.Mutex // of everything below; held while a copy is made and while the conference changes hands
	over     bool
	standbys map[string]*sfu.Standby // by conference
	copied   map[string]time.Time
	seats    map[string]map[sfu.ParticipantID]*seat
	offers   map[sfu.ParticipantID]int
	failed   int // copies that did not succeed
}

// Report says what a hand-over did.
type Report struct {
	Mode     Mode           `json:"mode"`
	From     netip.AddrPort `json:"from"`
	To       netip.AddrPort `json:"to"`
	Sessions int            `json:"sessions"`
	// Took is the time from the end of the first node to the nomination by the second.
	Took time.Duration `json:"took_ns"`
	// Age is how old the copy was that the second node went on with; 0 for a planned hand-over.
	Age time.Duration `json:"age_ns"`
	// FailedCopies is how many copies the second node did not take before.
	FailedCopies int `json:"failed_copies"`
}

// New starts both nodes and the signaling. The caller closes the Lab.
func New(cfg Config) (*Lab, error) {
	if !cfg.Address.IsValid() {
		cfg.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Lab{
		log: cfg.Log, standbys: make(map[string]*sfu.Standby), copied: make(map[string]time.Time),
		seats: make(map[string]map[sfu.ParticipantID]*seat), offers: make(map[sfu.ParticipantID]int),
	}
	l.relay.init()
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	rooms := signaling.NewRooms(id.NewRooms(key), nil)
	var err error
	l.svc, err = signaling.New(signaling.Config{
		Media: l, Auth: &signaling.Tokens{Signer: token.NewSigner(token.NewSeed())}, Directory: rooms,
	}, cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("failover: %w", err)
	}
	l.door = ws.New(l.svc, ws.Config{}, cfg.Log)
	if err := l.nodes(cfg); err != nil {
		return nil, errors.Join(err, l.svc.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.work.Go(func() { l.relay.run(l.event) })
	l.work.Go(func() { l.copies(ctx) })
	return l, nil
}

// nodes opens the standby first: the other one offers its port from the first offer on.
func (l *Lab) nodes(cfg Config) error {
	var key [32]byte
	_, _ = rand.Read(key[:])
	secret, err := transport.NewUfragKey(key[:])
	if err != nil {
		return fmt.Errorf("failover: %w", err)
	}
	at := netip.AddrPortFrom(cfg.Address, 0)
	l.second, err = sfu.NewNode(sfu.Config{NodeID: 2, Secret: secret, Listen: at, Observer: from{l, false}}, cfg.Log)
	if err != nil {
		return fmt.Errorf("failover: second node: %w", err)
	}
	l.first, err = sfu.NewNode(sfu.Config{
		NodeID: 1, Secret: secret, Listen: at, Observer: from{l, true}, Standby: []netip.AddrPort{l.second.LocalAddr()},
	}, cfg.Log)
	if err != nil {
		return errors.Join(fmt.Errorf("failover: first node: %w", err), l.second.Close())
	}
	return nil
}

// Handler is the front door: meetings and their WebSocket.
func (l *Lab) Handler() http.Handler { return l.door }

// Ports returns the media ports of both nodes.
func (l *Lab) Ports() (first, second netip.AddrPort) {
	return l.first.LocalAddr(), l.second.LocalAddr()
}

// Offers returns how many offers each participant has got.
func (l *Lab) Offers() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]int)
	for p, n := range l.offers {
		out[string(p)] = n
	}
	return out
}

// Stats returns the figures of both nodes; those of a node that has crashed are zero.
func (l *Lab) Stats(ctx context.Context) (first, second sfu.Stats) {
	first, _ = l.first.Stats(ctx)
	second, _ = l.second.Stats(ctx)
	return first, second
}

// Close ends the meeting and both nodes. It may be called twice.
func (l *Lab) Close() error {
	var err error
	l.once.Do(func() {
		err = errors.Join(l.svc.Close(), l.first.Close(), l.second.Close())
		l.cancel()
		l.relay.close()
		l.work.Wait()
	})
	return err
}

// HandOver moves every conference from the first node to the second. For as long as silence nobody serves in between: a death takes
// time to notice.
func (l *Lab) HandOver(ctx context.Context, mode Mode, silence time.Duration) (Report, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Report{Mode: mode, FailedCopies: l.failed, From: l.first.LocalAddr(), To: l.second.LocalAddr()}
	if l.over {
		return r, ErrDone
	}
	l.over = true
	began := time.Now()
	if mode == Crash {
		if err := l.first.Halt(); err != nil {
			return r, fmt.Errorf("failover: %w", err)
		}
	}
	for name, standby := range l.standbys {
		if mode == Crash {
			r.Age = max(r.Age, began.Sub(l.copied[name]))
			continue
		}
		h, err := l.first.Conference(name).Export(ctx, sfu.Freeze)
		if err != nil {
			return r, fmt.Errorf("failover: freeze: %w", err)
		}
		if err := standby.Update(ctx, h, sfu.ImportOptions{}); err != nil {
			return r, fmt.Errorf("failover: last state: %w", err)
		}
	}
	if silence > 0 {
		select {
		case <-time.After(silence):
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
	for name, standby := range l.standbys {
		endpoints, err := standby.Activate(ctx)
		if err != nil {
			return r, fmt.Errorf("failover: activate: %w", err)
		}
		for p, e := range endpoints {
			r.Sessions++
			if s := l.seats[name][p]; s != nil {
				s.e.Store(e)
			}
		}
	}
	r.Took = time.Since(began)
	for name := range l.standbys { // nothing of this is for clients: they are elsewhere
		if err := l.first.Conference(name).Close(ctx); err != nil && !errors.Is(err, sfu.ErrClosed) {
			return r, fmt.Errorf("failover: %w", err)
		}
	}
	return r, nil
}

// copies copies everything again and again, as long as there is a first node.
func (l *Lab) copies(ctx context.Context) {
	tick := time.NewTicker(copyInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		for name := range l.standbys {
			l.copy(ctx, name)
		}
		l.mu.Unlock()
	}
}

// copy brings the second node up to date with a conference of the first. The lock is held.
func (l *Lab) copy(ctx context.Context, name string) {
	if l.over {
		return
	}
	at := time.Now()
	h, err := l.first.Conference(name).Export(ctx, sfu.Copy)
	standby := l.standbys[name]
	switch {
	case errors.Is(err, sfu.ErrNotFound): // everybody has left
		if standby != nil {
			err = standby.Close(ctx)
			delete(l.standbys, name)
		}
	case err != nil:
	case standby == nil:
		if standby, err = l.second.Import(ctx, h, sfu.ImportOptions{Skip: Lease}); err == nil {
			l.standbys[name] = standby
		}
	default:
		err = standby.Update(ctx, h, sfu.ImportOptions{Skip: Lease})
	}
	if err == nil {
		l.copied[name] = at
	} else if ctx.Err() == nil && !errors.Is(err, sfu.ErrClosed) && !errors.Is(err, sfu.ErrNotFound) {
		l.failed++
		l.log.Error("failover: no copy", slog.String("conference", name), slog.Any("error", err))
	}
}

// event passes an event on to the signaling, behind the copy that it calls for: a client that gets an offer begins to check the
// standby at once, and some only then.
func (l *Lab) event(e observed) {
	l.mu.Lock()
	if e.Type == sfu.EventOffer {
		l.offers[e.Participant]++
	}
	if e.first {
		l.copy(context.Background(), e.Conference)
	}
	l.mu.Unlock()
	l.svc.Event(e.Event)
}
