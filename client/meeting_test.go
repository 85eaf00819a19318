package client_test

import (
	"testing"

	"github.com/pion/dtls/v3"

	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// RTP goes from one client to another over the whole server, once with each protection profile: every packet, once, in order, under
// the slot's SSRC.
func TestForward(t *testing.T) {
	s := newServer(t, nil)
	for name, profile := range map[string]dtls.SRTPProtectionProfile{
		"AEAD_AES_128_GCM": dtls.SRTP_AEAD_AES_128_GCM, "AES128_CM_HMAC_SHA1_80": dtls.SRTP_AES128_CM_HMAC_SHA1_80,
	} {
		t.Run(name, func(t *testing.T) {
			m := s.open(t)
			only := func(cfg *client.Config) { cfg.Profiles = []dtls.SRTPProtectionProfile{profile} }
			ann := m.join("Ann", with(publish(microphone, camera), only))
			bob := m.join("Bob", with(auto, only))
			talk(t, ann.Local(wire.Microphone), nil)
			talk(t, ann.Local(wire.Camera), nil)
			for _, who := range []*member{ann, bob} {
				if got := m.cipher(who.Participant()); got != "SRTP_"+name {
					t.Errorf("the server seals with %q, want %s", got, name)
				}
			}
			for source, clock := range map[wire.Source]uint32{wire.Microphone: audioClock, wire.Camera: videoClock} {
				stream := bob.stream(source)
				if stream.Participant != ann.Participant() || stream.Track.ID != ann.Local(source).ID() {
					t.Errorf("stream %+v is not that of Ann's %s", stream, source)
				}
				continuous(t, read(t, stream, 100), clock)
			}
		})
	}
}
