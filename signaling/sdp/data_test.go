package sdp

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pion "github.com/pion/sdp/v3"

	"github.com/sotto-edge/sotto/sfu"
)

// A section for data adds its lines, and its mid to the group: nothing else of the offer changes.
func TestWriteDataSection(t *testing.T) {
	o := testOffer()
	before := WriteOffer(o)
	o.Sections = append(o.Sections, sfu.Section{MID: "8", Data: 262144})
	got := WriteOffer(o)
	lines := []string{
		"m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=mid:8", "a=ice-ufrag:soAb+/12345",
		"a=ice-pwd:abcdefghijklmnopqrstuv", "a=setup:actpass", "a=sctp-port:5000", "a=max-message-size:262144", "",
	}
	want := strings.Replace(before, "BUNDLE 0 1 2 3 4 5 6\r\n", "BUNDLE 0 1 2 3 4 5 6 8\r\n", 1) + strings.Join(lines, "\r\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	o.Sections[8].Rejected = true
	got = WriteOffer(o)
	want = before + "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:8\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var d pion.SessionDescription
	if err := d.UnmarshalString(got); err != nil {
		t.Error(err)
	}
}

const dataAnswer = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n" +
	"a=setup:active\r\na=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n" +
	"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\na=sctp-port:5000\r\n"

func TestParseDataAnswer(t *testing.T) {
	for _, tc := range []struct {
		name, from, to string
		want           sfu.AnswerSection
		fault          bool
	}{
		{"no size", "", "", sfu.AnswerSection{MID: "0", Data: true, Largest: 64 << 10}, false},
		{"any size", "5000\r\n", "5000\r\na=max-message-size:0\r\n", sfu.AnswerSection{MID: "0", Data: true}, false},
		{"a size", "5000\r\n", "5000\r\na=max-message-size:1073741823\r\n", sfu.AnswerSection{MID: "0", Data: true, Largest: 1073741823}, false},
		{"beyond", "5000\r\n", "5000\r\na=max-message-size:9223372036854775807\r\n", sfu.AnswerSection{MID: "0", Data: true, Largest: 1 << 30}, false},
		{"no number", "5000\r\n", "5000\r\na=max-message-size:-1\r\n", sfu.AnswerSection{}, true},
		{"rejected", "m=application 9", "m=application 0", sfu.AnswerSection{MID: "0", Data: true, Rejected: true}, false},
		{"over TCP", "UDP/DTLS/SCTP", "TCP/DTLS/SCTP", sfu.AnswerSection{}, true},
		{"another use", "webrtc-datachannel", "bfcp", sfu.AnswerSection{}, true},
	} {
		a, err := ParseAnswer(strings.Replace(dataAnswer, tc.from, tc.to, 1))
		if (err != nil) != tc.fault {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if !tc.fault {
			if diff := cmp.Diff([]sfu.AnswerSection{tc.want}, a.Sections); diff != "" {
				t.Errorf("%s: %s", tc.name, diff)
			}
		}
	}
}
