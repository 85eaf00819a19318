package sdp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/sfu"
)

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// summary is an answer on one line per section: what the forwarding part looks at.
func summary(a sfu.Answer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s %.8s… active=%v\n", a.ICE.Ufrag, a.ICE.Pwd, a.Fingerprint.Algorithm, a.Fingerprint.Value, a.SetupActive)
	for _, s := range a.Sections {
		if s.Rejected {
			fmt.Fprintf(&b, "%s rejected\n", s.MID)
			continue
		}
		fmt.Fprintf(&b, "%s %s", s.MID, s.Direction)
		for _, c := range s.Codecs {
			fmt.Fprintf(&b, " %s:%d/%d", c.Name, c.PayloadType, c.RTX)
		}
		var ids []string
		for _, e := range s.Extensions {
			ids = append(ids, fmt.Sprint(e.ID))
		}
		fmt.Fprintf(&b, " ext=%s rids=%s ssrcs=%v rtx=%d\n", strings.Join(ids, ","), strings.Join(s.RIDs, ","), s.SSRCs, s.RTXSSRC)
	}
	return b.String()
}

func TestParseBrowserAnswers(t *testing.T) {
	for name, want := range map[string]string{
		"answer-chromium-156.sdp": `kPRf NS7sc8BBU8nNysp5HFrhkPcN sha-256 1A:D2:94… active=true
0 sendonly opus:111/0 ext=6,5,4,1 rids= ssrcs=[3702832254] rtx=0
1 sendonly VP8:96/97 ext=5,7,4,1,2,3,8 rids=q,h,f ssrcs=[] rtx=0
2 sendonly VP9:98/99 VP8:96/97 ext=5,7,4,1,2,3,8 rids= ssrcs=[2529042775] rtx=2622660441
3 recvonly opus:111/0 ext=6,5,4,1 rids= ssrcs=[] rtx=0
4 recvonly VP8:96/97 VP9:98/99 H264:102/103 AV1:45/46 ext=5,7,4,1,8 rids= ssrcs=[] rtx=0
5 recvonly VP8:96/97 VP9:98/99 H264:102/103 AV1:45/46 ext=5,7,4,1,8 rids= ssrcs=[] rtx=0
6 inactive opus:111/0 ext=6,5,4,1 rids= ssrcs=[] rtx=0
7 rejected
`,
		"answer-firefox-153.sdp": `2657126b 870e005eb862e38330707a61d5fa5026 sha-256 1E:3E:D4… active=true
0 sendonly opus:111/0 ext=1,4,6 rids= ssrcs=[659600878] rtx=0
1 sendonly VP8:96/97 ext=2,3,1,4,5,8 rids=q,h,f ssrcs=[538336355 1943874827 1624553282] rtx=2603816815
2 sendonly VP9:98/99 VP8:96/97 ext=2,3,1,4,5,8 rids= ssrcs=[1157489159] rtx=3857243465
3 recvonly opus:111/0 ext=1,4,6 rids= ssrcs=[3264143822] rtx=0
4 recvonly VP8:96/97 VP9:98/99 AV1:45/46 ext=1,4,5,8 rids= ssrcs=[2054238703] rtx=0
5 recvonly VP8:96/97 VP9:98/99 AV1:45/46 ext=1,4,5,8 rids= ssrcs=[1976571788] rtx=0
6 inactive opus:111/0 ext=1,4,6 rids= ssrcs=[2584765753] rtx=0
7 rejected
`,
	} {
		a, err := ParseAnswer(read(t, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, summary(a)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseRestartAnswers(t *testing.T) {
	for _, browser := range []string{"chromium-156", "firefox-153"} {
		first, err := ParseAnswer(read(t, "answer-"+browser+".sdp"))
		if err != nil {
			t.Fatal(err)
		}
		second, err := ParseAnswer(read(t, "answer-"+browser+"-restart.sdp"))
		if err != nil {
			t.Fatal(err)
		}
		if cmp.Equal(first.ICE, second.ICE) {
			t.Errorf("%s: the restart kept the ICE credentials", browser)
		}
		if first.Fingerprint != second.Fingerprint {
			t.Errorf("%s: the restart changed the certificate", browser)
		}
	}
}

func TestParseDetails(t *testing.T) {
	a, err := ParseAnswer(read(t, "answer-chromium-156.sdp"))
	if err != nil {
		t.Fatal(err)
	}
	want := sfu.Codec{PayloadType: 96, Name: "VP8", ClockRate: 90000, RTX: 97, Feedback: []string{"transport-cc", "ccm fir", "nack", "nack pli"}}
	if diff := cmp.Diff(want, a.Sections[1].Codecs[0]); diff != "" {
		t.Errorf("VP8 (-want +got):\n%s", diff)
	}
	want = sfu.Codec{PayloadType: 111, Name: "opus", ClockRate: 48000, Channels: 2, FMTP: "minptime=10;useinbandfec=1", Feedback: []string{"transport-cc"}}
	if diff := cmp.Diff(want, a.Sections[0].Codecs[0]); diff != "" {
		t.Errorf("opus (-want +got):\n%s", diff)
	}
}

// minimal is an answer of one section, small enough to break in one place at a time.
const minimal = `v=0
o=- 1 1 IN IP4 0.0.0.0
s=-
t=0 0
a=group:BUNDLE 0
a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F
a=ice-ufrag:abcd
a=ice-pwd:abcdefghijklmnopqrstuv
a=setup:active
m=video 9 UDP/TLS/RTP/SAVPF 96 97
c=IN IP4 0.0.0.0
a=mid:0
a=sendonly
a=rtcp-mux
a=rtpmap:96 VP8/90000
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
`

// Attributes of the transport may stand in the session, and line ends may be bare.
func TestParseMinimal(t *testing.T) {
	for _, text := range []string{minimal, strings.ReplaceAll(minimal, "\n", "\r\n"), strings.TrimSuffix(minimal, "\n")} {
		a, err := ParseAnswer(text)
		if err != nil {
			t.Fatal(err)
		}
		want := "abcd abcdefghijklmnopqrstuv sha-256 00:01:02… active=true\n0 sendonly VP8:96/97 ext= rids= ssrcs=[] rtx=0\n"
		if diff := cmp.Diff(want, summary(a)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestParseVariants(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"passive":                {"setup:active", "setup:passive", "active=false"},
		"paused and alternative": {"a=sendonly", "a=sendonly\na=rid:q send\na=rid:h send\na=rid:x send\na=simulcast:send ~q;h,x recv a", "rids=q,h"},
		"rid without simulcast":  {"a=sendonly", "a=sendonly\na=rid:q send pt=96", "rids=q"},
		"rid to receive":         {"a=sendonly", "a=sendonly\na=rid:q recv", "rids= "},
		"rejected": {
			"m=video 9 UDP/TLS/RTP/SAVPF 96 97", "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\na=mid:x\nm=video 9 UDP/TLS/RTP/SAVPF 96 97",
			"x rejected\n0 sendonly",
		},
		"better hash": {
			"a=setup:active", "a=setup:active\na=fingerprint:SHA-512 " + strings.TrimSuffix(strings.Repeat("ff:", 64), ":"), "sha-512 FF:FF:FF",
		},
		"unknown hash":       {"a=setup:active", "a=setup:active\na=fingerprint:md5 00", "sha-256 00:01"},
		"other group":        {"a=setup:active", "a=setup:active\na=group:LS 0", "0 sendonly"},
		"unknown attributes": {"a=setup:active", "a=setup:active\na=x-future:1\nb=AS:1\na=flag", "0 sendonly"},
		"static type":        {"SAVPF 96", "SAVPF 0 96", "sendonly VP8:96/97 ext"},
		"unused map":         {"a=sendonly", "a=sendonly\na=rtpmap:50 H265/90000", "sendonly VP8:96/97 ext"},
		"other group of ssrcs": {
			"a=sendonly", "a=sendonly\na=ssrc-group:SIM 1 2\na=ssrc:1 cname:a\na=ssrc:1 msid:b\na=ssrc:2 cname:a\na=ssrc-group:FID 1 2", "ssrcs=[1] rtx=2",
		},
	} {
		a, err := ParseAnswer(strings.Replace(minimal, c.old, c.new, 1))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := summary(a); !strings.Contains(got, c.want) {
			t.Errorf("%s: want %q in\n%s", name, c.want, got)
		}
	}
}

func TestParseErrors(t *testing.T) {
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format+"\n", i+1)
		}
		return b.String()
	}
	for _, c := range []struct {
		old, new string
		line     int
		want     string
	}{
		{minimal, "", 0, "no m-line"},
		{minimal, strings.Repeat("x", MaxBytes+1), 0, "65537 bytes"},
		{minimal, "v=0\n" + strings.Repeat("\n", maxLines+1), maxLines + 1, "lines"},
		{"v=0", "v=1", 1, "want v=0"},
		{"v=0\n", "", 1, "want v=0"},
		{"s=-", "s", 3, "want a letter"},
		{"s=-", "q=-", 3, "unknown line type"},
		{"s=-", "s=\x00", 3, "control character"},
		{"t=0 0", "a=ice-lite", 4, "ice-lite"},
		{"t=0 0", "a=group:BUNDLE x", 5, "second BUNDLE"},
		{"BUNDLE 0", "BUNDLE 1", 10, "not in the BUNDLE group"},
		{"BUNDLE 0", "BUNDLE" + strings.Repeat(" 0", maxSections+1), 5, "BUNDLE group of more"},
		{"sha-256 00:01", "sha-256 00:0x", 6, "fingerprint"},
		{"sha-256 00:01", "sha-256 0001", 6, "fingerprint"},
		{"sha-256 00", "sha-1 00", 0, "no fingerprint"},
		{"ufrag:abcd", "ufrag:abc", 7, "3 characters"},
		{"ufrag:abcd", "ufrag:ab d", 7, "holds ' '"},
		{"pwd:abcdefg", "pwd:a", 8, "16 characters"},
		{"a=ice-ufrag:abcd\n", "", 0, "no ice-ufrag"},
		{"setup:active", "setup:actpass", 9, "want active"},
		{"a=setup:active\n", "", 0, "no setup"},
		{"m=video 9 UDP/TLS/RTP/SAVPF 96 97", "m=video 9", 10, "2 fields"},
		{"m=video 9", "m=video 99999", 10, "port"},
		{"m=video 9 UDP", "m=video 9 TCP", 10, "protocol"},
		{"m=video", "m=text", 10, "kind"},
		{" 96 97", strings.Repeat(" 1", maxCodecs+1), 10, "formats"},
		{" 96 97", " 96 96", 10, "twice"},
		{" 96 97", " 97", 10, "no format"},
		{"a=mid:0\n", "", 10, "without a mid"},
		{"a=mid:0", "a=mid:", 12, "mid of 0"},
		{"a=mid:0", "a=mid:0\na=mid:1", 13, "second mid"},
		{"a=mid:0", "a=mid:0 1", 12, "mid holds"},
		{"m=video", "m=video 0 x 1\na=mid:0\nm=video", 12, "twice"},
		{"a=sendonly", "a=sendrecv", 10, "both ways"},
		{"a=sendonly\n", "", 10, "both ways"},
		{"a=sendonly", "a=sendonly\na=inactive", 14, "second direction"},
		{"a=rtcp-mux\n", "", 10, "rtcp-mux"},
		{"a=rtcp-mux", "a=bundle-only", 14, "bundle-only"},
		{"rtpmap:96 VP8/90000", "rtpmap:96", 15, "rtpmap"},
		{"rtpmap:96 VP8/90000", "rtpmap:128 VP8/90000", 15, "payload type"},
		{"rtpmap:96 VP8/90000", "rtpmap:96 VP8", 15, "name/clock"},
		{"rtpmap:96 VP8/90000", "rtpmap:96 VP8/0", 15, "clock rate"},
		{"rtpmap:96 VP8/90000", "rtpmap:96 VP8/9/99", 15, "channels"},
		{"rtpmap:96", "rtpmap:096", 10, "no format"},
		{" 96 97\n", " 096\na=rtpmap:096 VP8/90000\n", 10, "payload type"},
		{"fmtp:97 apt=96", "fmtp:97", 17, "fmtp"},
		{"a=sendonly", "a=sendonly\na=rtcp-fb:96", 14, "rtcp-fb"},
		{"a=sendonly", "a=sendonly\na=extmap:1", 14, "URI"},
		{"a=sendonly", "a=sendonly\na=extmap:0 urn:x", 14, "extmap id"},
		{"a=sendonly", "a=sendonly\na=extmap:256 urn:x", 14, "extmap id"},
		{"a=sendonly", "a=sendonly\na=extmap:1 urn:x\na=extmap:1/sendonly urn:y", 15, "twice"},
		{"a=sendonly", "a=sendonly\n" + many(maxMaps+1, "a=extmap:%d urn:x"), 14 + maxMaps, "extmaps"},
		{"a=sendonly", "a=sendonly\n" + many(maxRIDs+1, "a=rid:r%d send"), 14 + maxRIDs, "rids"},
		{"a=sendonly", "a=sendonly\n" + many(maxSSRCs+1, "a=ssrc:%d cname:x"), 14 + maxSSRCs, "ssrcs"},
		{"a=sendonly", "a=sendonly\n" + many(maxSSRCs+1, "a=ssrc-group:FID %d 9999"), 14 + maxSSRCs, "FID groups"},
		{"a=sendonly", "a=sendonly\n" + many(maxCodecs+1, "a=rtpmap:%d x/1"), 14 + maxCodecs, "rtpmaps"},
		{"a=sendonly", "a=sendonly\na=rid:q", 14, "rid"},
		{"a=sendonly", "a=sendonly\na=rid:" + strings.Repeat("q", 17) + " send", 14, "17 characters"},
		{"a=sendonly", "a=sendonly\na=rid:q! send", 14, "holds '!'"},
		{"a=sendonly", "a=sendonly\na=simulcast:send q;h", 10, "no rid line"},
		{"a=sendonly", "a=sendonly\na=simulcast:send q send h", 14, "twice"},
		{"a=sendonly", "a=sendonly\na=simulcast:send " + strings.Repeat("q;", maxRIDs) + "q", 14, "simulcast streams"},
		{"a=sendonly", "a=sendonly\na=ssrc:x", 14, "ssrc"},
		{"a=sendonly", "a=sendonly\na=ssrc-group:FID 1", 14, "FID group of 1"},
		{"a=sendonly", "a=sendonly\na=ssrc-group:FID 1 1", 14, "FID group"},
		{minimal, "v=0\n" + many(maxSections+1, "m=video 0 x 1\na=mid:%d"), 2 + 2*maxSections, "m-lines"},
	} {
		text := strings.Replace(minimal, c.old, c.new, 1)
		if text == minimal {
			t.Errorf("%q is not in the answer", c.old)
		}
		_, err := ParseAnswer(text)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%.60q for %.60q: no error", c.new, c.old)
			continue
		}
		if e.Line != c.line || !strings.Contains(e.What, c.want) {
			t.Errorf("%.60q for %.60q: %v; want line %d, %q", c.new, c.old, err, c.line, c.want)
		}
	}
}

// Bundled sections that name different transports were not understood, whatever they mean.
func TestParseUnbundled(t *testing.T) {
	const second = "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:1\na=inactive\na=rtcp-mux\na=rtpmap:111 opus/48000/2\n"
	two := strings.Replace(minimal, "BUNDLE 0", "BUNDLE 0 1", 1) + second
	if a, err := ParseAnswer(two); err != nil || len(a.Sections) != 2 {
		t.Fatalf("%v, %v", a, err)
	}
	for _, line := range []string{"a=ice-ufrag:other", "a=ice-pwd:vutsrqponmlkjihgfedcba", "a=setup:passive"} {
		_, err := ParseAnswer(two + line + "\n")
		var e *Error
		if !errors.As(err, &e) || e.Line != 18 || !strings.Contains(e.What, "bundled") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add(minimal)
	f.Add("")
	f.Add("v=0\nm=video 0 x 1\na=mid:0")
	f.Add(dataAnswer)
	f.Add(dataAnswer + "a=max-message-size:262144\r\n")
	for _, name := range []string{"answer-chromium-156.sdp", "answer-firefox-153.sdp", "offer.sdp"} {
		f.Add(read(f, name))
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAnswer(text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Line < 0 || e.Line > strings.Count(text, "\n")+1 || len(err.Error()) > 1024 {
				t.Fatalf("error %v", err)
			}
			return
		}
		if len(a.Sections) == 0 || len(a.Sections) > maxSections {
			t.Fatalf("%d sections", len(a.Sections))
		}
		mids := map[string]bool{}
		for _, s := range a.Sections {
			if s.MID == "" || mids[s.MID] {
				t.Fatalf("mid %q", s.MID)
			}
			mids[s.MID] = true
			if s.Rejected {
				continue
			}
			if s.Largest < 0 || s.Largest > 1<<30 {
				t.Fatalf("messages of %d bytes", s.Largest)
			}
			if len(s.Codecs) == 0 != s.Data || len(s.RIDs) > maxRIDs || len(s.SSRCs) > maxSSRCs || a.ICE.Ufrag == "" || a.Fingerprint.Value == "" {
				t.Fatalf("section %+v of %+v", s, a)
			}
		}
	})
}
