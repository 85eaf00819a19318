package transport_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"

	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/internal/shardtest"
)

// offer is what the server would say: it sends one audio track and takes one. The
// second node's candidate stands in it with the higher priority.
func offer(local transport.LocalParams, fp transport.Fingerprint, nodes ...*shardtest.Shard) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("v=0")
	line("o=- 1 1 IN IP4 127.0.0.1")
	line("s=-")
	line("t=0 0")
	line("a=group:BUNDLE 0 1")
	line("a=ice-options:trickle renomination")
	for mid, direction := range []string{"sendonly", "recvonly"} {
		line("m=audio 9 UDP/TLS/RTP/SAVPF 111")
		line("c=IN IP4 127.0.0.1")
		line("a=mid:%d", mid)
		line("a=%s", direction)
		line("a=rtcp-mux")
		line("a=ice-ufrag:%s", local.Ufrag)
		line("a=ice-pwd:%s", local.Pwd)
		line("a=fingerprint:%s", fp)
		line("a=setup:actpass")
		line("a=rtpmap:111 opus/48000/2")
		if direction == "sendonly" {
			line("a=msid:server audio")
			line("a=ssrc:%d cname:server", serverSSRC)
		}
		for i, n := range nodes {
			line("a=candidate:%d 1 udp %d %s %d typ host", i+1, 2130706000+256*i, n.Addr().Addr(), n.Addr().Port())
		}
		line("a=end-of-candidates")
	}
	return b.String()
}

// arrival is one packet as the client saw it.
type arrival struct {
	seq uint16
	at  time.Time
}

// browser is a pion client in the place of a browser.
type browser struct {
	pc    *webrtc.PeerConnection
	track *webrtc.TrackLocalStaticSample

	mu  sync.Mutex
	got []arrival
}

func newBrowser(t *testing.T, profile dtls.SRTPProtectionProfile) *browser {
	t.Helper()
	var se webrtc.SettingEngine
	se.SetIncludeLoopbackCandidate(true)
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	se.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() })
	se.SetSRTPProtectionProfiles(profile)
	var me webrtc.MediaEngine
	if err := me.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	api := webrtc.NewAPI(webrtc.WithSettingEngine(se), webrtc.WithMediaEngine(&me), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	b := &browser{pc: pc}
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			p, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.got = append(b.got, arrival{p.SequenceNumber, time.Now()})
			b.mu.Unlock()
		}
	})
	if b.track, err = webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "audio", "client"); err != nil {
		t.Fatal(err)
	}
	return b
}

// answer does the client's half of the offer and returns what the server needs.
func (b *browser) answer(t *testing.T, sdp string) transport.RemoteParams {
	t.Helper()
	if err := b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdp}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.pc.AddTrack(b.track); err != nil {
		t.Fatal(err)
	}
	a, err := b.pc.CreateAnswer(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.pc.SetLocalDescription(a); err != nil {
		t.Fatal(err)
	}
	var p transport.RemoteParams
	for _, line := range strings.Split(a.SDP, "\r\n") {
		if v, ok := strings.CutPrefix(line, "a=ice-ufrag:"); ok {
			p.Ufrag = v
		}
		if v, ok := strings.CutPrefix(line, "a=ice-pwd:"); ok {
			p.Pwd = v
		}
		if v, ok := strings.CutPrefix(line, "a=fingerprint:"); ok {
			algorithm, value, _ := strings.Cut(v, " ")
			if p.Fingerprint, err = transport.ParseFingerprint(algorithm, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	return p
}

func (b *browser) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.got)
}

// TestHandOver moves a live session of a pion client from one node to another, on a
// second port, by nomination: planned, where nothing is lost, and after a crash, where
// the numbering skips what the first node had leased.
func TestHandOver(t *testing.T) {
	const lease = 300
	for _, planned := range []bool{true, false} {
		for name, profile := range map[string]dtls.SRTPProtectionProfile{
			"GCM": dtls.SRTP_AEAD_AES_128_GCM, "CM": dtls.SRTP_AES128_CM_HMAC_SHA1_80,
		} {
			kind := "crash"
			if planned {
				kind = "planned"
			}
			t.Run(kind+" "+name, func(t *testing.T) { handOver(t, planned, lease, profile) })
		}
	}
}

func handOver(t *testing.T, planned bool, lease uint64, profile dtls.SRTPProtectionProfile) {
	seenA, seenB := &tally{}, &tally{}
	a := shardtest.New(t, shardtest.Config{Node: 1, Handler: seenA, Priority: 2130706000})
	b := shardtest.New(t, shardtest.Config{Node: 2, Handler: seenB, Priority: 2130706256})
	client := newBrowser(t, profile)

	var sa, sb *transport.Session
	var local transport.LocalParams
	a.Do(func(m *transport.Mux, now int64) {
		var err error
		if sa, err = m.Open(0x5e551011, now); err != nil {
			t.Error(err)
			return
		}
		local = sa.Local()
	})
	checkpoint := func() (c transport.Checkpoint) {
		a.Do(func(_ *transport.Mux, now int64) { c = sa.Checkpoint(now) })
		return c
	}
	// The standby knows the session before the client knows the standby: pion checks a
	// pair only until it has a nominated one.
	early := checkpoint()
	b.Do(func(m *transport.Mux, now int64) {
		var err error
		if sb, err = m.Restore(early, transport.RestoreOptions{Standby: true}, now); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	remote := client.answer(t, offer(local, a.Pool.Fingerprint(), a, b))
	b.Until(t, "check at the standby", func(m *transport.Mux, _ int64) bool { return m.Counters().Requests > 0 })
	a.Do(func(_ *transport.Mux, now int64) {
		if err := sa.SetRemote(remote, now); err != nil {
			t.Error(err)
		}
	})
	answered := checkpoint()
	b.Do(func(_ *transport.Mux, now int64) {
		if err := sb.Update(answered, 0, now); err != nil {
			t.Error(err)
		}
	})
	a.Until(t, "ready", func(*transport.Mux, int64) bool { return sa.Ready() })
	b.Until(t, "pair of the standby", func(*transport.Mux, int64) bool { return sb.Validated() })

	// Media both ways, a packet every 5 ms. next is the downward index; who sends it
	// changes with the hand-over.
	var mu sync.Mutex
	node, sess, next := a, sa, uint64(65536-120) // wraps on the way
	stop, stopped := make(chan struct{}), make(chan struct{})
	defer func() { close(stop); <-stopped }()
	go func() {
		defer close(stopped)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			mu.Lock()
			node.Do(func(*transport.Mux, int64) {
				if sess.Ready() && trySend(t, sess, next, "media") == nil {
					next++
				}
			})
			mu.Unlock()
			_ = client.track.WriteSample(media.Sample{Data: []byte("up"), Duration: 20 * time.Millisecond})
		}
	}()
	shardtest.Until(t, "media down over A", func() bool { return client.count() > 200 })
	shardtest.Until(t, "media up over A", func() bool { return seenA.rtp.Load() > 50 })

	update := func(skip uint64) {
		c := checkpoint()
		b.Do(func(_ *transport.Mux, now int64) {
			if err := sb.Update(c, skip, now); err != nil {
				t.Error(err)
			}
		})
	}
	var granted uint64 // the highest index that A may use after the checkpoint
	if !planned {
		mu.Lock()
		granted = next - 1 + lease
		update(lease)
		mu.Unlock()
		mark := client.count()
		shardtest.Until(t, "packets after the checkpoint", func() bool { return client.count() > mark+20 })
	}

	mu.Lock()
	if planned {
		a.Do(func(*transport.Mux, int64) { sa.Freeze() })
		update(0)
	} else {
		a.Stop()
	}
	lastOfA := next - 1
	b.Do(func(_ *transport.Mux, now int64) {
		if err := sb.Activate(now); err != nil {
			t.Error(err)
			return
		}
		st, err := sb.Sender().Stream(serverSSRC)
		if err != nil {
			t.Error(err)
			return
		}
		high, _ := st.Highest()
		if next <= high {
			next = high + 1
		}
	})
	firstOfB := next
	node, sess = b, sb
	mu.Unlock()
	if planned && firstOfB != lastOfA+1 {
		t.Errorf("planned: first index %d after %d", firstOfB, lastOfA)
	}
	if !planned && (lastOfA > granted || firstOfB != granted+1) {
		t.Errorf("crash: index %d after %d, leased up to %d", firstOfB, lastOfA, granted)
	}

	mark := client.count()
	shardtest.Until(t, "media down over B", func() bool { return client.count() > mark+100 })
	shardtest.Until(t, "media up over B", func() bool { return seenB.rtp.Load() > 50 })
	b.Until(t, "nomination answered", func(m *transport.Mux, _ int64) bool {
		c := m.Counters()
		return c.Nominations > 0 && c.PathChanges == 1
	})
	b.Do(func(m *transport.Mux, _ int64) {
		if c := m.Counters(); c.AuthFailed != 0 {
			t.Errorf("B could not open %d packets", c.AuthFailed)
		}
	})

	client.mu.Lock()
	defer client.mu.Unlock()
	var gap time.Duration
	for i := 1; i < len(client.got); i++ {
		before, this := client.got[i-1], client.got[i]
		step := this.seq - before.seq
		switch {
		case this.seq == uint16(firstOfB):
			gap = this.at.Sub(before.at)
			if want := uint16(firstOfB - lastOfA); step != want {
				t.Errorf("numbering goes on %d after the last packet of A, want %d", step, want)
			}
		case step != 1:
			t.Errorf("sequence %d after %d", this.seq, before.seq)
		}
	}
	if gap == 0 {
		t.Error("first packet of B never arrived")
	}
	t.Logf("gap at the client %v; index %d (A) -> %d (B); %d packets, %d received up by B",
		gap.Round(100*time.Microsecond), lastOfA, firstOfB, len(client.got), seenB.rtp.Load())
}
