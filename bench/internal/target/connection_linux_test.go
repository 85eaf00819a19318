package target

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/bench/internal/sink"
)

func TestUnderstand(t *testing.T) {
	const head = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
	at, l, err := understand(head +
		"a=candidate:1 1 tcp 1 127.0.0.1 9 typ host tcptype passive\r\na=candidate:2 1 udp 1 fe80::1 5 typ host\r\n" +
		"a=candidate:3 1 udp 2130706431 198.18.0.1 20001 typ host\r\na=candidate:4 1 UDP 1 10.0.0.1 7 typ host\r\n" +
		"a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\n" +
		"a=extmap:5/sendonly http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n")
	if err != nil || at.String() != "198.18.0.1:20001" {
		t.Errorf("at %s, %v", at, err)
	}
	if diff := cmp.Diff(sink.Layout{Transport: 5, Sound: 111}, l); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", head, "v=0\r\n", head + "a=candidate:3 1 udp 1 nowhere 20001 typ host\r\n"} {
		if _, _, err := understand(bad); err == nil {
			t.Errorf("%q has an address", bad)
		}
	}
}

func FuzzUnderstand(f *testing.F) {
	f.Add("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=candidate:3 1 udp 2130706431 198.18.0.1 20001 typ host\r\n")
	f.Add("v=0\r\no=- 1 2 IN IP4 1.1.1.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=extmap:5/x urn:x\r\na=candidate:1\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		if at, _, err := understand(text); err == nil && !at.Addr().Is4() {
			t.Errorf("at %s", at)
		}
	})
}

// What cannot be started says what to do.
func TestStartRefuses(t *testing.T) {
	for _, c := range []Config{{Name: "unheard of"}, {Name: PlainPion}, {Name: Janus, Profile: "x"}, {Name: BarePion, Binary: "/bin/false"}} {
		if s, err := Start(t.Context(), c); err == nil {
			t.Errorf("%+v starts", c)
			_ = s.Stop()
		}
	}
}
