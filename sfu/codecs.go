package sfu

import (
	"strings"

	"github.com/sotto-edge/sotto/internal/rtp"
)

// Payload types and extension ids are the same in every offer, so that a packet's bytes mean the same in every session.
var (
	videoFeedback = []string{"nack", "nack pli", "ccm fir", "transport-cc"}

	opus = Codec{PayloadType: 111, Name: "opus", ClockRate: 48000, Channels: 2, FMTP: "minptime=10;useinbandfec=1", Feedback: []string{"transport-cc"}}
	// What was said is said again in the next packet, or the next two. Before Opus: Chromium sends what comes first. Where it is not
	// needed, the node takes it off again (sfu/forward).
	red  = Codec{PayloadType: 63, Name: "red", ClockRate: 48000, Channels: 2, FMTP: "111/111", Feedback: []string{"transport-cc"}}
	vp8  = Codec{PayloadType: 96, Name: "VP8", ClockRate: 90000, RTX: 97, Feedback: videoFeedback}
	vp9  = Codec{PayloadType: 98, Name: "VP9", ClockRate: 90000, FMTP: "profile-id=0", RTX: 99, Feedback: videoFeedback}
	h264 = Codec{
		PayloadType: 102, Name: "H264", ClockRate: 90000, RTX: 103, Feedback: videoFeedback,
		FMTP: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
	}
	av1 = Codec{PayloadType: 45, Name: "AV1", ClockRate: 90000, FMTP: "level-idx=5;profile=0;tier=0", RTX: 46, Feedback: videoFeedback}

	audioCodecs = []Codec{red, opus}
	videoCodecs = []Codec{vp8, vp9, h264, av1}
)

// Extension ids.
const (
	extMID = iota + 1
	extRID
	extRepairedRID
	extTransportCC
	extAbsSendTime
	extAudioLevel
	extOrientation
	extDependency
)

var (
	audioExtensions = []Extension{
		{extMID, rtp.URIMID},
		{extTransportCC, rtp.URITransportCC},
		{extAbsSendTime, rtp.URIAbsSendTime},
		{extAudioLevel, rtp.URIAudioLevel},
	}
	videoExtensions = []Extension{
		{extMID, rtp.URIMID},
		{extTransportCC, rtp.URITransportCC},
		{extAbsSendTime, rtp.URIAbsSendTime},
		{extOrientation, rtp.URIVideoOrientation},
		{extDependency, rtp.URIDependencyDescriptor},
	}
	videoInExtensions = append([]Extension{{extRID, rtp.URIRID}, {extRepairedRID, rtp.URIRepairedRID}}, videoExtensions...)
)

// simulcastRIDs are the layers of a simulcast publication, lowest resolution first.
var simulcastRIDs = []string{"q", "h", "f"}

// publishCodecs returns the codecs to offer a publisher: the one it prefers, then the one that every browser has.
func publishCodecs(p *Publish) ([]Codec, error) {
	preferred := p.Codec
	if p.Source.Kind() == Audio {
		switch {
		case preferred != "" && !strings.EqualFold(preferred, opus.Name):
			return nil, ErrUnsupportedCodec
		case p.Encrypted:
			return []Codec{opus}, nil
		}
		return audioCodecs, nil
	}
	if preferred == "" {
		return []Codec{vp8}, nil
	}
	for _, c := range videoCodecs {
		if !strings.EqualFold(c.Name, preferred) {
			continue
		}
		if c.PayloadType == vp8.PayloadType {
			return []Codec{vp8}, nil
		}
		return []Codec{c, vp8}, nil
	}
	return nil, ErrUnsupportedCodec
}
