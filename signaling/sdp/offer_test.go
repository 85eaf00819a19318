package sdp

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pion "github.com/pion/sdp/v3"

	"github.com/sotto-edge/sotto/sfu"
)

var update = flag.Bool("update", false, "write the golden offer anew")

const (
	uriMID        = "urn:ietf:params:rtp-hdrext:sdes:mid"
	uriRID        = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
	uriRepaired   = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
	uriTWCC       = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
	uriSendTime   = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
	uriLevel      = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
	uriRotation   = "urn:3gpp:video-orientation"
	uriDependency = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
)

// testOffer has a section of every kind: sound and simulcast pictures to receive, slots to send in, one that fell silent and one
// out of use.
func testOffer() sfu.Offer {
	fb := []string{"nack", "nack pli", "ccm fir", "transport-cc"}
	opus := sfu.Codec{PayloadType: 111, Name: "opus", ClockRate: 48000, Channels: 2, FMTP: "minptime=10;useinbandfec=1", Feedback: []string{"transport-cc"}}
	vp8 := sfu.Codec{PayloadType: 96, Name: "VP8", ClockRate: 90000, RTX: 97, Feedback: fb}
	vp9 := sfu.Codec{PayloadType: 98, Name: "VP9", ClockRate: 90000, RTX: 99, FMTP: "profile-id=0", Feedback: fb}
	h264 := sfu.Codec{PayloadType: 102, Name: "H264", ClockRate: 90000, RTX: 103, FMTP: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f", Feedback: fb}
	av1 := sfu.Codec{PayloadType: 45, Name: "AV1", ClockRate: 90000, RTX: 46, Feedback: fb}
	all := []sfu.Codec{vp8, vp9, h264, av1}
	audio := []sfu.Extension{{ID: 1, URI: uriMID}, {ID: 4, URI: uriTWCC}, {ID: 5, URI: uriSendTime}, {ID: 6, URI: uriLevel}}
	video := []sfu.Extension{{ID: 1, URI: uriMID}, {ID: 4, URI: uriTWCC}, {ID: 5, URI: uriSendTime}, {ID: 7, URI: uriRotation}, {ID: 8, URI: uriDependency}}
	videoIn := append([]sfu.Extension{{ID: 2, URI: uriRID}, {ID: 3, URI: uriRepaired}}, video...)
	return sfu.Offer{
		Number: 3,
		ICE: sfu.ICEParams{
			Ufrag: "soAb+/12345", Pwd: "abcdefghijklmnopqrstuv",
			Candidates: []sfu.Candidate{
				{Addr: netip.MustParseAddrPort("198.18.0.7:50000"), Priority: 2130706431, Foundation: "1"},
				{Addr: netip.MustParseAddrPort("[2001:db8::7%eth0]:50000"), Priority: 2130706430, Foundation: "2"},
				{Addr: netip.MustParseAddrPort("[::ffff:127.0.0.1]:50000"), Priority: 2130705151, Foundation: "3"},
				{Addr: netip.MustParseAddrPort("198.18.0.7:8443"), Priority: 1518280447, Foundation: "4", TCP: true},
			},
		},
		Fingerprint: sfu.Fingerprint{Algorithm: "sha-256", Value: strings.TrimSuffix(strings.Repeat("0A:", 32), ":")},
		Sections: []sfu.Section{
			{MID: "0", Kind: sfu.Audio, Direction: sfu.RecvOnly, Source: sfu.Microphone, Track: "t1", Codecs: []sfu.Codec{opus}, Extensions: audio},
			{MID: "1", Kind: sfu.Video, Direction: sfu.RecvOnly, Source: sfu.Camera, Track: "t2", Codecs: []sfu.Codec{vp8}, Extensions: videoIn, RIDs: []string{"q", "h", "f"}},
			{MID: "2", Kind: sfu.Video, Direction: sfu.RecvOnly, Source: sfu.Screen, Track: "t3", Codecs: []sfu.Codec{vp9, vp8}, Extensions: videoIn},
			{MID: "3", Kind: sfu.Audio, Direction: sfu.SendOnly, Codecs: []sfu.Codec{opus}, Extensions: audio, SSRC: 1001, CNAME: "cname", StreamID: "slot-3"},
			{MID: "4", Kind: sfu.Video, Direction: sfu.SendOnly, Codecs: all, Extensions: video, SSRC: 1002, RTXSSRC: 1003, CNAME: "cname", StreamID: "slot-4"},
			{MID: "5", Kind: sfu.Video, Direction: sfu.SendOnly, Codecs: all, Extensions: video, SSRC: 4294967295, RTXSSRC: 1005, CNAME: "cname"},
			{MID: "6", Kind: sfu.Audio, Direction: sfu.Inactive, Source: sfu.ScreenAudio, Codecs: []sfu.Codec{opus}, Extensions: audio},
			{MID: "7", Kind: sfu.Video, Codecs: []sfu.Codec{vp8}, Rejected: true},
		},
	}
}

func TestWriteOffer(t *testing.T) {
	got := WriteOffer(testOffer())
	path := filepath.Join("testdata", "offer.sdp")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("offer (-golden +written), -update to accept:\n%s", diff)
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(got, "\r\n"), "\r\n") {
		if len(line) < 3 || line[1] != '=' || strings.ContainsAny(line, "\r\n") {
			t.Errorf("line %q", line)
		}
	}
	if strings.Contains(got, "goog-remb") {
		t.Error("the offer asks for receiver estimates")
	}
}

// A parser of others reads what was written.
func TestWriteOfferForPion(t *testing.T) {
	var d pion.SessionDescription
	if err := d.UnmarshalString(WriteOffer(testOffer())); err != nil {
		t.Fatal(err)
	}
	if n := len(d.MediaDescriptions); n != 8 {
		t.Fatalf("%d sections", n)
	}
	if g, _ := d.Attribute("group"); g != "BUNDLE 0 1 2 3 4 5 6" {
		t.Errorf("group %q", g)
	}
	for i, m := range d.MediaDescriptions {
		_, candidates := m.Attribute("candidate")
		if candidates != (i == 0) {
			t.Errorf("section %d: candidates %v", i, candidates)
		}
	}
}

// Where the first section is out of use, the candidates stand in the first that is not: that is the tagged one of the group.
func TestCandidatesFollowTheTaggedSection(t *testing.T) {
	o := testOffer()
	o.Sections[0].Rejected = true
	sections := strings.Split(WriteOffer(o), "\r\nm=")
	for i, s := range sections[1:] {
		if strings.Contains(s, "a=candidate") != (i == 1) || strings.Contains(s, "a=end-of-candidates") != (i == 1) {
			t.Errorf("section %d:\n%s", i, s)
		}
	}
	if !strings.Contains(sections[0], "BUNDLE 1 2") {
		t.Errorf("session:\n%s", sections[0])
	}
}

func TestWriteEmptyOffer(t *testing.T) {
	if s := WriteOffer(sfu.Offer{}); strings.Contains(s, "group") || !strings.HasPrefix(s, "v=0\r\n") {
		t.Errorf("%q", s)
	}
}
