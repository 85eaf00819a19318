package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/sotto-edge/sotto/bench/internal/child"
	"github.com/sotto-edge/sotto/bench/internal/netns"
	"github.com/sotto-edge/sotto/bench/internal/sink"
)

// janusFolders is where the package of Debian puts the plugins; elsewhere it is beside the program.
var janusFolders = []string{"/usr/lib/x86_64-linux-gnu/janus", "/usr/lib/aarch64-linux-gnu/janus", "/usr/lib/janus"}

// janusCore and the rest are the configuration: two event loops, ICE-lite on the one address, nothing that is not used.
const janusCore = `
general: {
	configs_folder = "%[1]s"
	plugins_folder = "%[2]s/plugins"
	transports_folder = "%[2]s/transports"
	events_folder = "%[1]s/none"
	loggers_folder = "%[1]s/none"
	debug_level = 2
	event_loops = 2
	interface = "%[3]s"
	hide_dependencies = true
}
media: { rtp_port_range = "20000-29999" }
nat: {
	nice_debug = false
	ice_lite = true
	ice_enforce_list = "%[3]s"
	ignore_mdns = true
}
plugins: { disable = "%[4]s" }
transports: { disable = "%[5]s" }
events: { broadcast = false }
`

const janusSockets = `
general: { json = "compact", ws = true, ws_port = %d, ws_ip = "127.0.0.1", wss = false }
admin: { admin_ws = false, admin_wss = false }
`

// janusServer is Janus, running.
type janusServer struct {
	*child.Process
	url  string
	last int64
}

func startJanus(ctx context.Context, c Config) (Server, error) {
	if c.Profile != "" {
		return nil, errors.New("bench: Janus takes no profiles of itself")
	}
	if err := Missing(Janus); err != nil {
		return nil, err
	}
	if !netns.Inside() {
		return nil, errors.New("bench: Janus does not talk over loopback: run it in a network namespace")
	}
	i := slices.IndexFunc(janusFolders, func(dir string) bool {
		_, err := os.Stat(dir)
		return err == nil
	})
	if i < 0 {
		return nil, fmt.Errorf("bench: Janus's plugins are in none of %v", janusFolders)
	}
	folder := janusFolders[i]
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free: Janus takes none of the system's choice
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	p, err := child.Run(func(dir string) (*exec.Cmd, error) {
		plugins, err1 := except(filepath.Join(folder, "plugins"), "libjanus_videoroom.so")
		transports, err2 := except(filepath.Join(folder, "transports"), "libjanus_websockets.so")
		core := fmt.Sprintf(janusCore, dir, folder, netns.Address, plugins, transports)
		err := errors.Join(
			err1, err2,
			os.WriteFile(filepath.Join(dir, "janus.jcfg"), []byte(core), 0o600),
			os.WriteFile(filepath.Join(dir, "janus.plugin.videoroom.jcfg"), []byte("general: { }\n"), 0o600),
			os.WriteFile(filepath.Join(dir, "janus.transport.websockets.jcfg"), fmt.Appendf(nil, janusSockets, port), 0o600),
		)
		return exec.Command("janus", "-F", dir, "-C", filepath.Join(dir, "janus.jcfg")), err
	})
	if err != nil {
		return nil, err
	}
	s := &janusServer{Process: p, url: "ws://127.0.0.1:" + strconv.Itoa(port)}
	err = p.Await(ctx, func() (bool, error) {
		c, err := net.Dial("tcp", s.url[len("ws://"):])
		if err != nil {
			return false, nil
		}
		return true, c.Close()
	})
	if err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return s, nil
}

// except names all libraries of a folder but one, as Janus wants to be told what to leave out.
func except(dir, one string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*.so"))
	if err != nil {
		return "", err
	}
	list := ""
	for _, f := range found {
		if name := filepath.Base(f); name != one {
			if list != "" {
				list += ","
			}
			list += name
		}
	}
	return list, nil
}

// PID implements Server.
func (s *janusServer) PID() int { return s.Process.PID }

// Local implements Server.
func (s *janusServer) Local() netip.Addr { return netns.Address }

// Profile implements Server.
func (s *janusServer) Profile() error { return errors.New("bench: Janus takes no profiles of itself") }

// Open implements Server.
func (s *janusServer) Open(ctx context.Context) (Room, error) {
	s.last++
	r := &janusRoom{url: s.url, number: s.last, feeds: map[string]janusFeed{}}
	j, err := r.dial(ctx, nil)
	if err != nil {
		return nil, err
	}
	_, err = j.message(ctx, map[string]any{
		"request": "create", "room": r.number, "publishers": 1000, "bitrate": 0, "bitrate_cap": false, "videocodec": "vp8", "audiocodec": "opus",
		"transport_wide_cc_ext": true, "notify_joining": false,
	}, nil)
	return r, errors.Join(err, j.close())
}

type janusRoom struct {
	url    string
	number int64

	mu    sync.Mutex
	feeds map[string]janusFeed // by name
}

type janusFeed struct {
	id     int64
	tracks int
}

// Join implements Room.
func (r *janusRoom) Join(ctx context.Context, cfg SeatConfig) (Seat, error) {
	return newPair(ctx, cfg, &janusSeat{room: r, cfg: cfg})
}

// janusSeat is one seat's signaling: a session and a handle for each direction, as Janus wants it.
type janusSeat struct {
	room    *janusRoom
	cfg     SeatConfig
	out, in *janusSession
}

func (s *janusSeat) publish(ctx context.Context, offer string, tracks int) (_ string, err error) {
	if s.out, err = s.room.dial(ctx, s.cfg.Turns); err != nil {
		return "", err
	}
	joined, err := s.out.message(ctx, map[string]any{"request": "join", "ptype": "publisher", "room": s.room.number, "display": s.cfg.Name}, nil)
	if err != nil {
		return "", err
	}
	published, err := s.out.message(ctx, map[string]any{"request": "publish", "audiocodec": "opus", "videocodec": "vp8"}, &janusJSEP{"offer", offer})
	if err != nil {
		return "", err
	}
	if published.JSEP == nil {
		return "", errors.New("bench: Janus answers a publication without a description")
	}
	s.room.mu.Lock()
	s.room.feeds[s.cfg.Name] = janusFeed{joined.Plugin.Data.ID, tracks}
	s.room.mu.Unlock()
	return published.JSEP.SDP, nil
}

func (s *janusSeat) receive(ctx context.Context) (_ string, streams int, err error) {
	if s.in, err = s.room.dial(ctx, s.cfg.Turns); err != nil {
		return "", 0, err
	}
	var list []map[string]any
	s.room.mu.Lock()
	for name, f := range s.room.feeds {
		if name != s.cfg.Name {
			list = append(list, map[string]any{"feed": f.id})
			streams += f.tracks
		}
	}
	s.room.mu.Unlock()
	offer, err := s.in.message(ctx, map[string]any{"request": "join", "ptype": "subscriber", "room": s.room.number, "streams": list, "autoupdate": false}, nil)
	if err != nil {
		return "", 0, err
	}
	if offer.JSEP == nil {
		return "", 0, errors.New("bench: Janus offers no description")
	}
	return offer.JSEP.SDP, streams, nil
}

func (s *janusSeat) answer(ctx context.Context, answer string) error {
	_, err := s.in.message(ctx, map[string]any{"request": "start"}, &janusJSEP{"answer", answer})
	return err
}

func (s *janusSeat) close() error {
	var errs []error
	for _, j := range []*janusSession{s.in, s.out} {
		if j != nil {
			errs = append(errs, j.close())
		}
	}
	return errors.Join(errs...)
}

// janusSession is one WebSocket with one session and one handle of the videoroom plugin.
type janusSession struct {
	conn    *websocket.Conn
	session int64
	handle  int64
	cancel  context.CancelFunc
	work    sync.WaitGroup

	mu      sync.Mutex
	last    int
	waiting map[string]chan janusReply
	ended   error
}

type janusJSEP struct {
	Type string `json:"type"`
	SDP  string `json:"sdp"`
}

// janusReply is what of Janus's messages is looked at.
type janusReply struct {
	Janus       string `json:"janus"`
	Transaction string `json:"transaction"`
	Data        struct {
		ID int64 `json:"id"`
	} `json:"data"`
	Error struct {
		Reason string `json:"reason"`
	} `json:"error"`
	Plugin struct {
		Data struct {
			ID    int64  `json:"id"`
			Error string `json:"error"`
		} `json:"data"`
	} `json:"plugindata"`
	JSEP *janusJSEP `json:"jsep"`
}

const (
	janusAlive = 25 * time.Second // sessions end after 60 s of silence
	janusLimit = 1 << 20
)

func (r *janusRoom) dial(ctx context.Context, turns *sink.Turns) (*janusSession, error) {
	transport := &http.Transport{}
	if turns != nil {
		transport.DialContext = turns.Dial
	}
	c, _, err := websocket.Dial(ctx, r.url, &websocket.DialOptions{Subprotocols: []string{"janus-protocol"}, HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		return nil, fmt.Errorf("bench: Janus: %w", err)
	}
	c.SetReadLimit(janusLimit)
	j := &janusSession{conn: c, waiting: map[string]chan janusReply{}}
	living, cancel := context.WithCancel(context.Background())
	j.cancel = cancel
	j.work.Go(func() { j.read(living) })
	reply, err := j.request(ctx, map[string]any{"janus": "create"})
	if err != nil {
		return nil, errors.Join(err, j.close())
	}
	j.session = reply.Data.ID
	if reply, err = j.request(ctx, map[string]any{"janus": "attach", "plugin": "janus.plugin.videoroom"}); err != nil {
		return nil, errors.Join(err, j.close())
	}
	j.handle = reply.Data.ID
	j.work.Go(func() { j.live(living) })
	return j, nil
}

// live keeps the session from timing out.
func (j *janusSession) live(ctx context.Context) {
	tick := time.NewTicker(janusAlive)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if _, _, err := j.send(ctx, map[string]any{"janus": "keepalive"}); err != nil {
			return
		}
	}
}

func (j *janusSession) read(ctx context.Context) {
	for {
		_, text, err := j.conn.Read(ctx)
		var m janusReply
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if err != nil {
			j.mu.Lock()
			j.ended = err
			for _, w := range j.waiting {
				close(w)
			}
			j.waiting = nil
			j.mu.Unlock()
			return
		}
		if m.Janus == "ack" {
			continue // the answer proper comes as an event
		}
		j.mu.Lock()
		w := j.waiting[m.Transaction]
		delete(j.waiting, m.Transaction)
		j.mu.Unlock()
		if w != nil {
			w <- m
		}
	}
}

// send sends one request, in one WebSocket frame: Janus 1.1 does not put split ones together.
func (j *janusSession) send(ctx context.Context, m map[string]any) (string, chan janusReply, error) {
	j.mu.Lock()
	if j.waiting == nil {
		err := j.ended
		j.mu.Unlock()
		return "", nil, fmt.Errorf("bench: Janus: %w", err)
	}
	j.last++
	name := strconv.Itoa(j.last)
	reply := make(chan janusReply, 1)
	if m["janus"] != "keepalive" {
		j.waiting[name] = reply
	}
	j.mu.Unlock()
	m["transaction"] = name
	if j.session != 0 {
		m["session_id"] = j.session
	}
	if j.handle != 0 && m["janus"] == "message" {
		m["handle_id"] = j.handle
	}
	text, err := json.Marshal(m)
	if err == nil {
		err = j.conn.Write(ctx, websocket.MessageText, text)
	}
	if err != nil {
		return "", nil, fmt.Errorf("bench: Janus: %w", err)
	}
	return name, reply, nil
}

func (j *janusSession) request(ctx context.Context, m map[string]any) (janusReply, error) {
	name, waiting, err := j.send(ctx, m)
	if err != nil {
		return janusReply{}, err
	}
	select {
	case reply, ok := <-waiting:
		if !ok {
			return reply, errors.New("bench: Janus has hung up")
		}
		if reason := reply.Error.Reason + reply.Plugin.Data.Error; reason != "" {
			return reply, fmt.Errorf("bench: Janus refuses %v: %s", m["body"], reason)
		}
		return reply, nil
	case <-ctx.Done():
		j.mu.Lock()
		delete(j.waiting, name)
		j.mu.Unlock()
		return janusReply{}, fmt.Errorf("bench: Janus does not answer %v: %w", m["body"], ctx.Err())
	}
}

// message speaks to the plugin.
func (j *janusSession) message(ctx context.Context, body map[string]any, jsep *janusJSEP) (janusReply, error) {
	m := map[string]any{"janus": "message", "body": body}
	if jsep != nil {
		m["jsep"] = jsep
	}
	return j.request(ctx, m)
}

func (j *janusSession) close() error {
	j.cancel()
	err := j.conn.CloseNow()
	j.work.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
