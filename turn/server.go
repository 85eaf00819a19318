package turn

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/logging"
	pion "github.com/pion/turn/v5"

	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/turn/policy"
)

// Server is a TURN server.
type Server struct {
	cfg       Config
	log       *slog.Logger
	realms    []*realm // the first is that of who names none
	inner     *inner
	annex     *annex
	frame     []byte // FromMedia's
	strangers *policy.Strangers
	known     *policy.Strangers // sources that hold allocations
	pion      *pion.Server
	keeper    *keeper

	counters  counters
	relayed   struct{ up, down, offloadedUp, offloadedDown traffic }
	offloaded atomic.Int64

	table table
	mu    sync.Mutex // taken under the library's locks, never with the table's
	// Requests that the library is at work on.
	pending map[key]*request
	open    map[told]*relayed
	conns   map[*stream]struct{}
	// The 5-tuples that are made up for clients, and how many have been.
	madeUp map[key]madeUp
	drawn  uint64

	reserved map[netip.AddrPort]*reservation

	closing chan struct{}
	once    sync.Once
	err     error
	running sync.WaitGroup
}

// New starts a server. It takes the sockets and listeners over, and closes them when it fails.
func New(cfg Config) (s *Server, err error) {
	defer func() {
		if err == nil {
			return
		}
		for _, x := range cfg.Sockets {
			_ = x.Close()
		}
		for _, x := range cfg.Listeners {
			_ = x.Close()
		}
	}()
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	l := cfg.Limits
	s = &Server{
		cfg: cfg, log: cfg.Log, inner: newInner(),
		strangers: policy.NewStrangers(l.SourceRequests, l.Requests, maxSources),
		known:     policy.NewStrangers(10*l.SourceRequests, 10*l.Requests, maxSources),
		table:     newTable(),
		pending:   make(map[key]*request), open: make(map[told]*relayed), conns: make(map[*stream]struct{}), madeUp: make(map[key]madeUp),
		reserved: make(map[netip.AddrPort]*reservation),
		closing:  make(chan struct{}),
	}
	s.annex, s.keeper = newAnnex(s), newKeeper(s)
	for i, r := range append([]Realm{{Auth: cfg.Auth, Peers: cfg.Peers, Limits: l}}, cfg.Realms...) {
		s.realms = append(s.realms, newRealm(r, i))
	}
	pc := pion.ServerConfig{
		Realm: cfg.Auth.Realm(), StrictAddressFamily: true, InboundMTU: mtu, PermissionTimeout: permissionLife, ChannelBindTimeout: channelLife,
		LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled},
		AuthHandler: func(ra *pion.RequestAttributes) (string, []byte, bool) {
			return ra.Username, s.inner.secret, true // the front has authenticated it
		},
		EventHandler: s.events(),
	}
	permit := func(_ net.Addr, ip net.IP) bool { // of whom the front has asked his realm
		a, _ := netip.AddrFromSlice(ip)
		return slices.ContainsFunc(s.realms, func(r *realm) bool { return r.Peers.Addr(a.Unmap()) })
	}
	for _, x := range []net.PacketConn{s.inner, s.annex} {
		pc.PacketConnConfigs = append(pc.PacketConnConfigs, pion.PacketConnConfig{PacketConn: x, RelayAddressGenerator: relays{s}, PermissionHandler: permit})
	}
	for _, x := range cfg.Sockets {
		pc.PacketConnConfigs = append(pc.PacketConnConfigs, pion.PacketConnConfig{
			PacketConn: newDatagrams(s, x), RelayAddressGenerator: relays{s}, PermissionHandler: permit,
		})
	}
	var accepting []*streams
	for _, x := range cfg.Listeners {
		st := newStreams(s, x)
		accepting = append(accepting, st)
		pc.ListenerConfigs = append(pc.ListenerConfigs, pion.ListenerConfig{
			Listener: st, RelayAddressGenerator: relays{s}, PermissionHandler: permit,
		})
	}
	if s.pion, err = pion.NewServer(pc); err != nil {
		return nil, fmt.Errorf("turn: %w", err)
	}
	for _, st := range accepting {
		s.running.Add(1)
		go st.run()
	}
	go s.keeper.run()
	return s, nil
}

// maxSources is how many sources of requests are told apart.
const maxSources = 65536

// events keeps the table true to what the library does.
func (s *Server) events() pion.EventHandler {
	find := func(a net.Addr) *allocation {
		if r := s.find(a); r != nil {
			return r.alloc.Load()
		}
		return nil
	}
	addr := func(ip net.IP) netip.Addr {
		a, _ := netip.AddrFromSlice(ip)
		return a.Unmap()
	}
	return pion.EventHandler{
		OnAllocationCreated: func(src, dst net.Addr, _, _, _ string, told net.Addr, _ int) { s.created(src, dst, told) },
		OnPermissionCreated: func(_, _ net.Addr, _, _, _ string, told net.Addr, peer net.IP) {
			if a := find(told); a != nil {
				a.permit(addr(peer))
			}
		},
		OnPermissionDeleted: func(_, _ net.Addr, _, _, _ string, told net.Addr, peer net.IP) {
			if a := find(told); a != nil {
				a.forbid(addr(peer))
			}
		},
		OnChannelCreated: func(_, _ net.Addr, _, _, _ string, told, peer net.Addr, number uint16) {
			if a := find(told); a != nil {
				a.bind(number, addrPort(peer))
			}
		},
		OnChannelDeleted: func(_, _ net.Addr, _, _, _ string, told, _ net.Addr, number uint16) {
			if a := find(told); a != nil {
				a.unbind(number)
			}
		},
	}
}

// created makes a relayed address an allocation.
func (s *Server) created(src, dst, at net.Addr) {
	_, tcp := src.(*net.TCPAddr)
	k := key{client: addrPort(src), server: addrPort(dst), stream: tcp}
	s.mu.Lock()
	r, rel := s.pending[k], s.open[toldBy(at)]
	s.mu.Unlock()
	if r == nil || rel == nil || rel.user == nil {
		return
	}
	a := &allocation{
		id: id.New("a_"), inner: k, user: rel.user, rel: rel, relayed: rel.told, local: rel.local, created: time.Now(), mobile: r.mobile, home: s,
		permitted: make(map[netip.Addr]time.Time), channels: make(map[uint16]*channel),
	}
	from := r.source // without the request that it is of
	a.from.Store(&from)
	if r.dontFragment && !rel.tcp {
		rel.dontFragment = true
		dontFragment(rel.under, rel.local.Addr(), true)
	}
	rel.alloc.Store(a)
	s.table.put(a)
	s.counters.created.Add(1)
	if st, ok := r.port.(*stream); ok && k != r.key && !a.mobile && st.gone.Load() {
		rel.shut() // the connection that it was to end with has ended
	}
	s.log.Debug("TURN allocation", "client", r.client, "over", string(r.transport), "relayed", rel.told, "user", rel.user.name)
}

// told is a relayed address as clients know it.
type told struct {
	addr netip.AddrPort
	tcp  bool
}

func toldBy(a net.Addr) told {
	_, tcp := a.(*net.TCPAddr)
	return told{addrPort(a), tcp}
}

func (s *Server) remember(r *relayed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[told{r.told, r.tcp}] = r
}

func (s *Server) forget(r *relayed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := (told{r.told, r.tcp}); s.open[k] == r {
		delete(s.open, k)
	}
}

func (s *Server) find(a net.Addr) *relayed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[toldBy(a)]
}

// admit takes a connection in, if there is room.
func (s *Server) admit(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.cfg.Limits.Connections || s.over() {
		s.counters.connections.Add(1)
		return false
	}
	s.conns[st] = struct{}{}
	return true
}

func (s *Server) dismiss(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, st)
}

func (s *Server) over() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// Engine is the name of what relays bound channels.
func (s *Server) Engine() string { return s.cfg.Offloader.Engine() }

// Allocations returns the allocations of now, the oldest first.
func (s *Server) Allocations() []Allocation {
	all := s.table.all()
	out := make([]Allocation, len(all))
	for i, a := range all {
		out[i] = a.show()
	}
	slices.SortFunc(out, func(a, b Allocation) int { return a.Created.Compare(b.Created) })
	return out
}

// End ends an allocation, and says whether there was one of that id.
func (s *Server) End(id string) bool {
	for _, a := range s.table.all() {
		if a.id == id {
			a.rel.shut()
			s.counters.ended.Add(1)
			select { // its client may make another at once
			case <-a.rel.free:
			case <-time.After(time.Second):
			case <-s.closing:
			}
			return true
		}
	}
	return false
}

// Close ends all allocations and returns when their sockets are closed. The Offloader is not closed: it is the caller's.
func (s *Server) Close() error {
	s.once.Do(func() {
		close(s.closing)
		s.err = s.pion.Close()
		s.mu.Lock()
		conns := make([]*stream, 0, len(s.conns))
		for st := range s.conns {
			conns = append(conns, st)
		}
		left := make([]*relayed, 0, len(s.open))
		for _, r := range s.open {
			left = append(left, r)
		}
		reserved := slices.Collect(maps.Keys(s.reserved))
		s.mu.Unlock()
		for _, at := range reserved {
			if c := s.claim(at); c != nil {
				_ = c.Close()
			}
		}
		for _, st := range conns {
			_ = st.Close()
		}
		for _, r := range left {
			r.shut()
		}
		s.keeper.close()
		s.running.Wait()
	})
	if errors.Is(s.err, net.ErrClosed) {
		return nil
	}
	return s.err
}
