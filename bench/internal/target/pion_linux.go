package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/sotto-edge/sotto/bench/internal/child"
)

// maxBody bounds what is read of an HTTP answer.
const maxBody = 4 << 20

// pionServer is bench/peer, running.
type pionServer struct {
	*child.Process
	url   string
	rooms atomic.Int64
}

func startPion(ctx context.Context, c Config) (Server, error) {
	if c.Binary == "" {
		return nil, errors.New("bench: the pion SFU is a program of its own (go build ./bench/peer): say where it is")
	}
	args := []string{}
	if c.Name == BarePion {
		args = append(args, "-bare")
	}
	if c.Profile != "" {
		args = append(args, "-cpu-profile", c.Profile)
	}
	p, err := child.Run(func(string) (*exec.Cmd, error) { return exec.Command(c.Binary, args...), nil })
	if err != nil {
		return nil, err
	}
	s := &pionServer{Process: p}
	err = p.Await(ctx, func() (bool, error) { // its first line is its address
		for line := range strings.Lines(p.Log()) {
			if at := strings.TrimSpace(line); strings.HasPrefix(at, "http://") {
				s.url = at
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return s, nil
}

// PID implements Server.
func (s *pionServer) PID() int { return s.Process.PID }

// Local implements Server.
func (s *pionServer) Local() netip.Addr { return loopback }

// Profile implements Server.
func (s *pionServer) Profile() error { return s.Signal(syscall.SIGUSR2) }

// Open implements Server.
func (s *pionServer) Open(context.Context) (Room, error) {
	return &pionRoom{url: fmt.Sprintf("%s/rooms/%d/", s.url, s.rooms.Add(1)), server: s.url}, nil
}

type pionRoom struct {
	url, server string
	tracks      atomic.Int64 // published by all
}

// Join implements Room.
func (r *pionRoom) Join(ctx context.Context, cfg SeatConfig) (Seat, error) {
	s := &pionSignaling{room: r, name: cfg.Name, http: &http.Client{Transport: &http.Transport{}}}
	if cfg.Turns != nil {
		s.http.Transport = &http.Transport{DialContext: cfg.Turns.Dial}
	}
	return newPair(ctx, cfg, s)
}

// pionSignaling is one seat's.
type pionSignaling struct {
	room   *pionRoom
	name   string
	http   *http.Client
	tracks int64  // its own
	peer   string // where its answer goes
}

func (s *pionSignaling) post(ctx context.Context, at, body string) (string, http.Header, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(body))
	if err != nil {
		return "", nil, fmt.Errorf("bench: %w", err)
	}
	resp, err := s.http.Do(r)
	if err != nil {
		return "", nil, fmt.Errorf("bench: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return "", nil, fmt.Errorf("bench: %w", err)
	}
	if resp.StatusCode >= 300 {
		return "", nil, fmt.Errorf("bench: %s: %s: %s", r.URL.Path, resp.Status, text)
	}
	return string(text), resp.Header, nil
}

func (s *pionSignaling) publish(ctx context.Context, offer string, tracks int) (string, error) {
	answer, _, err := s.post(ctx, s.room.url+"publish?id="+url.QueryEscape(s.name), offer)
	if err == nil {
		s.tracks = int64(tracks)
		s.room.tracks.Add(s.tracks)
	}
	return answer, err
}

func (s *pionSignaling) receive(ctx context.Context) (string, int, error) {
	want := int(s.room.tracks.Load() - s.tracks)
	offer, header, err := s.post(ctx, fmt.Sprintf("%sreceive?id=%s&tracks=%d", s.room.url, url.QueryEscape(s.name), want), "")
	s.peer = header.Get("Location")
	return offer, want, err
}

func (s *pionSignaling) answer(ctx context.Context, answer string) error {
	_, _, err := s.post(ctx, s.room.server+s.peer, answer)
	return err
}

func (s *pionSignaling) close() error {
	s.http.CloseIdleConnections()
	return nil
}
