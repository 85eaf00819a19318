package transport_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	pionrtp "github.com/pion/rtp"
	pionsrtp "github.com/pion/srtp/v3"
	"github.com/pion/transport/v4/packetio"

	"github.com/sotto-edge/sotto/internal/pktbuf"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/handshake"
	"github.com/sotto-edge/sotto/sfu/transport/internal/shardtest"
)

// tally is a Handler for shards that counts what comes.
type tally struct {
	rtp   atomic.Int64
	state atomic.Int32
}

func (h *tally) RTP(*transport.Session, *pktbuf.Buf, *rtp.Header, uint64, int64) { h.rtp.Add(1) }
func (h *tally) RTCP(*transport.Session, []byte, int64)                          {}
func (h *tally) State(_ *transport.Session, st transport.State, _ int64)         { h.state.Store(int32(st)) }

func (h *tally) is(st transport.State) func() bool {
	return func() bool { return transport.State(h.state.Load()) == st }
}

// split is a net.Conn of an ICE agent, shared by DTLS and SRTP.
type split struct {
	net.Conn
	dtls  *packetio.Buffer
	media chan []byte
}

func newSplit(conn net.Conn) *split {
	s := &split{Conn: conn, dtls: packetio.NewBuffer(), media: make(chan []byte, 256)}
	go func() {
		defer func() { _ = s.dtls.Close() }()
		b := make([]byte, 2048)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			if udp.Classify(b[:n]) == udp.KindDTLS {
				_, _ = s.dtls.Write(b[:n])
				continue
			}
			select {
			case s.media <- append([]byte(nil), b[:n]...):
			default:
			}
		}
	}()
	return s
}

func (s *split) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := s.dtls.Read(b)
	return n, s.RemoteAddr(), err
}
func (s *split) WriteTo(b []byte, _ net.Addr) (int, error) { return s.Write(b) }
func (s *split) SetReadDeadline(t time.Time) error         { return s.dtls.SetReadDeadline(t) }
func (s *split) SetDeadline(t time.Time) error             { return s.dtls.SetReadDeadline(t) }
func (s *split) Close() error                              { return s.dtls.Close() }

// TestPion connects a client made of pion/ice, pion/dtls and pion/srtp.
func TestPion(t *testing.T) {
	for name, profile := range map[string]dtls.SRTPProtectionProfile{
		"GCM": dtls.SRTP_AEAD_AES_128_GCM, "CM": dtls.SRTP_AES128_CM_HMAC_SHA1_80,
	} {
		t.Run(name, func(t *testing.T) {
			seen := &tally{}
			shard := shardtest.New(t, shardtest.Config{Node: 1, Handler: seen})
			cert, err := handshake.NewCertificate()
			if err != nil {
				t.Fatal(err)
			}
			agent, err := ice.NewAgentWithOptions(
				ice.WithNetworkTypes([]ice.NetworkType{ice.NetworkTypeUDP4}),
				ice.WithCandidateTypes([]ice.CandidateType{ice.CandidateTypeHost}),
				ice.WithIncludeLoopback(),
				ice.WithIPFilter(func(ip net.IP) bool { return ip.IsLoopback() }),
				ice.WithMulticastDNSMode(ice.MulticastDNSModeDisabled),
			)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = agent.Close() }()
			var gathered sync.WaitGroup
			gathered.Add(1)
			_ = agent.OnCandidate(func(c ice.Candidate) {
				if c == nil {
					gathered.Done()
				}
			})
			if err := agent.GatherCandidates(); err != nil {
				t.Fatal(err)
			}
			gathered.Wait()
			ufrag, pwd, err := agent.GetLocalUserCredentials()
			if err != nil {
				t.Fatal(err)
			}

			var s *transport.Session
			var local transport.LocalParams
			shard.Do(func(m *transport.Mux, now int64) {
				if s, err = m.Open(9, now); err != nil {
					return
				}
				local = s.Local()
				err = s.SetRemote(transport.RemoteParams{
					Ufrag: ufrag, Pwd: pwd, Fingerprint: transport.FingerprintOf(cert.Certificate[0]),
				}, now)
			})
			if err != nil {
				t.Fatal(err)
			}
			c, err := ice.UnmarshalCandidate(fmt.Sprintf("1 1 udp 2130706431 %s %d typ host", shard.Addr().Addr(), shard.Addr().Port()))
			if err != nil {
				t.Fatal(err)
			}
			if err := agent.AddRemoteCandidate(c); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), shardtest.Patience)
			defer cancel()
			iceConn, err := agent.Accept(ctx, local.Ufrag, local.Pwd) // controlled
			if err != nil {
				t.Fatal(err)
			}
			conn := newSplit(iceConn)
			dc, err := dtls.ClientWithOptions(conn, conn.RemoteAddr(),
				dtls.WithCertificates(cert), dtls.WithInsecureSkipVerify(true),
				dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
				dtls.WithSRTPProtectionProfiles(profile))
			if err != nil {
				t.Fatal(err)
			}
			if err := dc.HandshakeContext(ctx); err != nil {
				t.Fatal(err)
			}
			cfg := &pionsrtp.Config{Profile: pionsrtp.ProtectionProfile(profile)}
			state, _ := dc.ConnectionState()
			if err := cfg.ExtractSessionKeysFromDTLS(&state, true); err != nil {
				t.Fatal(err)
			}
			out, err := pionsrtp.CreateContext(cfg.Keys.LocalMasterKey, cfg.Keys.LocalMasterSalt, cfg.Profile)
			if err != nil {
				t.Fatal(err)
			}
			in, err := pionsrtp.CreateContext(cfg.Keys.RemoteMasterKey, cfg.Keys.RemoteMasterSalt, cfg.Profile)
			if err != nil {
				t.Fatal(err)
			}
			shardtest.Until(t, "connected", seen.is(transport.StateConnected))

			const packets = 100
			for i := range packets {
				raw, err := (&pionrtp.Packet{
					Header:  pionrtp.Header{Version: 2, PayloadType: 111, SequenceNumber: uint16(65500 + i), SSRC: clientSSRC},
					Payload: []byte("from pion"),
				}).Marshal()
				if err != nil {
					t.Fatal(err)
				}
				sealed, err := out.EncryptRTP(nil, raw, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Write(sealed); err != nil {
					t.Fatal(err)
				}
				shard.Do(func(*transport.Mux, int64) { send(t, s, uint64(65500+i), "to pion") })
			}
			shardtest.Until(t, "all packets at the server", func() bool { return seen.rtp.Load() == packets })
			for i := range packets {
				b := <-conn.media
				var h pionrtp.Header
				plain, err := in.DecryptRTP(nil, b, &h)
				if err != nil {
					t.Fatalf("packet %d: %v", i, err)
				}
				if n, err := h.Unmarshal(plain); err != nil || string(plain[n:]) != "to pion" || h.SequenceNumber != uint16(65500+i) {
					t.Fatalf("packet %d: %q, %+v, %v", i, plain, h, err)
				}
			}
			_ = dc.Close()
			shardtest.Until(t, "closed", seen.is(transport.StateClosed))
		})
	}
}
