package sdp

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/sdp/v3"

	"github.com/sotto-edge/sotto/sfu"
)

const clientHead = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE a v\r\na=setup:actpass\r\na=ice-ufrag:abcd\r\n" +
	"a=ice-pwd:abcdefghijklmnopqrstuv\r\na=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n"

const clientMinimal = clientHead +
	"m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\na=mid:a\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n" +
	"m=video 0 UDP/TLS/RTP/SAVPF 96 97\r\na=bundle-only\r\na=mid:v\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n" +
	"a=rid:0 send max-width=640;max-height=360\r\na=rid:1 send pt=96;max-width=1280\r\na=simulcast:send 1;0\r\n"

func TestParseOffer(t *testing.T) {
	o, err := ParseOffer(clientMinimal)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	fmt.Fprintf(&got, "%s %s %s\n", o.ICE.Ufrag, o.ICE.Pwd, o.Fingerprint.Algorithm)
	for _, s := range o.Sections {
		fmt.Fprintf(&got, "%s %s %s rejected=%v rids=%v limits=%v\n", s.MID, s.Kind, s.Direction, s.Rejected, s.RIDs, s.Limits)
	}
	want := `abcd abcdefghijklmnopqrstuv sha-256
a audio sendonly rejected=false rids=[] limits=map[]
v video sendrecv rejected=false rids=[1 0] limits=map[0:640 1:1280]
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("offer (-want +got):\n%s", diff)
	}
}

func TestParseOfferRefuses(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"passive":       {"a=setup:actpass", "a=setup:passive", "setup:passive"},
		"no setup":      {"a=setup:actpass\r\n", "", "no setup"},
		"ice-lite":      {"a=setup:actpass", "a=ice-lite", "ice-lite"},
		"no bundle":     {"BUNDLE a v", "BUNDLE a", "BUNDLE"},
		"no mux":        {"a=sendonly\r\na=rtcp-mux\r\n", "a=sendonly\r\n", "rtcp-mux"},
		"data":          {"m=audio 9 UDP/TLS/RTP/SAVPF", "m=application 9 UDP/DTLS/SCTP", "application"},
		"unused data":   {"m=audio 9 UDP/TLS/RTP/SAVPF", "m=application 0 UDP/DTLS/SCTP", "application"},
		"lone rid":      {"a=simulcast:send 1;0", "a=simulcast:send 1;2", "rid"},
		"no mid":        {"a=mid:v\r\n", "", "mid"},
		"no m-line":     {clientMinimal[len(clientHead):], "", "no m-line"},
		"another ufrag": {"a=mid:v\r\n", "a=mid:v\r\na=ice-ufrag:efgh\r\n", "another ice-ufrag"},
	} {
		text := strings.Replace(clientMinimal, c.old, c.new, 1)
		if text == clientMinimal {
			t.Fatalf("%s changes nothing", name)
		}
		var e *Error
		if _, err := ParseOffer(text); !errors.As(err, &e) || !strings.Contains(e.What, c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := ParseAnswer(clientMinimal); err == nil {
		t.Error("an offer is taken for an answer")
	}
}

func TestWriteAnswer(t *testing.T) {
	text := WriteAnswer(sfu.Offer{
		Number: 1, Fingerprint: sfu.Fingerprint{Algorithm: "sha-256", Value: "AB"},
		ICE: sfu.ICEParams{Ufrag: "u", Pwd: "p", Candidates: []sfu.Candidate{{Addr: netip.MustParseAddrPort("198.18.0.1:5000"), Priority: 1, Foundation: "1"}}},
		Sections: []sfu.Section{
			{MID: "a", Kind: sfu.Audio, Rejected: true, Codecs: []sfu.Codec{{PayloadType: 9, Name: "G722", ClockRate: 8000}}},
			{MID: "v", Kind: sfu.Video, Direction: sfu.RecvOnly, Codecs: []sfu.Codec{{PayloadType: 96, Name: "VP8", ClockRate: 90000, RTX: 97}}, RIDs: []string{"h", "l"}},
			{MID: "w", Kind: sfu.Video, Direction: sfu.SendOnly, Codecs: []sfu.Codec{{PayloadType: 96, Name: "VP8", ClockRate: 90000}}, SSRC: 5, CNAME: "c", StreamID: "s"},
		},
	})
	for _, want := range []string{
		"a=group:BUNDLE v w\r\n", "m=audio 0 UDP/TLS/RTP/SAVPF 9\r\n", "a=setup:passive\r\n", "a=simulcast:recv h;l\r\n", "a=rid:h recv\r\n",
		"a=candidate:1 1 udp 1 198.18.0.1 5000 typ host\r\n", "a=msid:s track-w\r\n", "a=ssrc:5 cname:c\r\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, no := range []string{"actpass", "extmap-allow-mixed"} {
		if strings.Contains(text, no) {
			t.Errorf("%q in\n%s", no, text)
		}
	}
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		t.Error(err)
	}
}

func TestParseFragment(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want Fragment
		fail string
	}{
		"restart, as RFC 9725 §4.3.3 has it": {
			"a=ice-options:trickle ice2\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n" +
				"a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag ysXw network-id 1\r\na=candidate:1 1 tcp 1518280447 2001:db8::1 9 typ host tcptype active\r\n",
			Fragment{Ufrag: "ysXw", Pwd: "vw5LmwG4y/e6dPP/zAP9Gp5k", Candidates: 2},
			"",
		},
		"the end":              {"m=audio 9 RTP/AVP 0\na=mid:0\na=end-of-candidates\n", Fragment{End: true}, ""},
		"the end of one":       {"m=audio 9 RTP/AVP 0\na=mid:0\na=end-of-candidates\nm=video 9 RTP/AVP 0\n", Fragment{}, ""},
		"nothing":              {"", Fragment{}, ""},
		"the same twice":       {"a=ice-ufrag:abcd\na=ice-pwd:abcdefghijklmnopqrstuv\nm=audio 9 RTP/AVP 0\na=ice-ufrag:abcd\n", Fragment{Ufrag: "abcd", Pwd: "abcdefghijklmnopqrstuv"}, ""},
		"two of them":          {"a=ice-ufrag:abcd\na=ice-pwd:abcdefghijklmnopqrstuv\nm=audio 9 RTP/AVP 0\na=ice-ufrag:efgh\n", Fragment{}, "another ice-ufrag"},
		"half":                 {"a=ice-pwd:abcdefghijklmnopqrstuv\n", Fragment{}, "no ice-ufrag"},
		"other half":           {"a=ice-ufrag:abcd\n", Fragment{}, "no ice-pwd"},
		"short":                {"a=ice-ufrag:abc\n", Fragment{}, "line 1: ice-ufrag"},
		"a description":        {"v=0\r\n", Fragment{}, "line 1: want an attribute"},
		"candidate":            {"a=candidate:1 1 udp 1 192.0.2.1 9 host\r\n", Fragment{}, "candidate"},
		"port of a candidate":  {"a=candidate:1 1 udp 1 192.0.2.1 99999 typ host\r\n", Fragment{}, "port"},
		"m-line":               {"m=audio\n", Fragment{}, "m-line"},
		"too many lines":       {strings.Repeat("a=x\n", 600), Fragment{}, "more than"},
		"too large":            {strings.Repeat("a", 17<<10), Fragment{}, "bytes"},
		"a control character":  {"a=mid:\x00\n", Fragment{}, "control"},
		"a mid that is no mid": {"a=mid:\n", Fragment{}, "mid"},
	} {
		got, err := ParseFragment(c.text)
		if c.fail != "" {
			if err == nil || !strings.Contains(err.Error(), c.fail) {
				t.Errorf("%s: %v, want %q", name, err, c.fail)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

func TestFragmentsOfOursAreRead(t *testing.T) {
	text := WriteFragment(sfu.Section{MID: "a", Kind: sfu.Audio}, sfu.ICEParams{
		Ufrag: "abcd", Pwd: "abcdefghijklmnopqrstuv", Candidates: []sfu.Candidate{{Addr: netip.MustParseAddrPort("[2001:db8::1]:5000"), Priority: 7, Foundation: "1"}},
	})
	got, err := ParseFragment(text)
	if want := (Fragment{Ufrag: "abcd", Pwd: "abcdefghijklmnopqrstuv", Candidates: 1, End: true}); err != nil || got != want {
		t.Errorf("%+v, %v of\n%s", got, err, text)
	}
}

func FuzzParseFragment(f *testing.F) {
	f.Add("a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=end-of-candidates\r\n")
	f.Add("m=a 1 b 2\na=candidate:")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ParseFragment(text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Line < 0 || e.Line > strings.Count(text, "\n")+1 || len(err.Error()) > 1024 {
				t.Fatalf("error %v", err)
			}
			return
		}
		if g.Candidates < 0 || g.Candidates > maxFragmentLines || (g.Ufrag == "") != (g.Pwd == "") {
			t.Fatalf("%+v", g)
		}
		if g.Ufrag == "" {
			return
		}
		again, err := ParseFragment(WriteFragment(sfu.Section{MID: "0", Kind: sfu.Audio}, sfu.ICEParams{Ufrag: g.Ufrag, Pwd: g.Pwd}))
		if err != nil || again.Ufrag != g.Ufrag || again.Pwd != g.Pwd {
			t.Fatalf("%+v, %v after %+v", again, err, g)
		}
	})
}

func FuzzParseOffer(f *testing.F) {
	f.Add(clientMinimal)
	f.Add(strings.ReplaceAll(clientMinimal, "\r\n", "\n"))
	f.Fuzz(func(t *testing.T, text string) {
		o, err := ParseOffer(text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Line < 0 || e.Line > strings.Count(text, "\n")+1 || len(err.Error()) > 1024 {
				t.Fatalf("error %v", err)
			}
			return
		}
		mids := map[string]bool{}
		for _, s := range o.Sections {
			if s.MID == "" || mids[s.MID] || s.Kind != sfu.Audio && s.Kind != sfu.Video || len(s.RIDs) > maxRIDs {
				t.Fatalf("section %+v", s)
			}
			mids[s.MID] = true
		}
	})
}
