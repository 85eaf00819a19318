package client_test

import (
	"net"
	"testing"

	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/sfu/icetcp"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// TestMediaOverTCP: pion's ICE agent, which has nothing but TCP, connects to the passive candidates of the offer; pictures and tones go
// both ways, between shards too, and no datagram meets a socket.
func TestMediaOverTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, nil, func(cfg *sfu.Config) {
		cfg.Beside, cfg.StreamPort = true, l.Addr().(*net.TCPAddr).AddrPort().Port()
	})
	streams := icetcp.New(icetcp.Config{Receiver: s.node})
	s.node.Carry(udp.Stream, streams)
	served := make(chan error, 1)
	go func() { served <- streams.Serve(l) }()
	t.Cleanup(func() {
		if err := streams.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	m := s.open(t)
	overTCP := func(change func(*client.Config)) func(*client.Config) {
		return func(cfg *client.Config) {
			cfg.TCP = true
			change(cfg)
		}
	}
	people := []*member{m.join("Ann", overTCP(publish(camera, microphone))), m.join("Eve", overTCP(publish(camera, microphone)))}
	watcher := m.join("Receiver", overTCP(auto))
	for _, p := range people {
		talk(t, p.Local(wire.Camera), nil)
		talk(t, p.Local(wire.Microphone), nil)
	}
	for range people {
		if err := unbroken(watcher.stream(wire.Camera), 100, videoClock); err != nil {
			t.Error(err)
		}
		if err := unbroken(watcher.stream(wire.Microphone), 30, audioClock); err != nil {
			t.Error(err)
		}
	}
	st := m.stats()
	if in := st.Socket.ReceivedDatagrams + st.Socket.SentDatagrams; in != 0 {
		t.Errorf("%d datagrams by the socket", in)
	}
	if got := streams.Stats(); got.Connections < 3 || got.FramesIn < 400 || got.FramesOut < 400 {
		t.Errorf("%+v", got)
	}
}
