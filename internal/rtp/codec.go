package rtp

import "strings"

// Kind is what a codec carries.
type Kind uint8

// Kinds.
const (
	KindUnknown Kind = iota
	KindAudio
	KindVideo
)

// String returns the media type as SDP writes it.
func (k Kind) String() string {
	switch k {
	case KindAudio:
		return "audio"
	case KindVideo:
		return "video"
	}
	return "unknown"
}

// Codec is a codec whose payloads the appliance can look into as far as forwarding needs.
// Everything else, RTX included, is Unknown.
type Codec uint8

// Codecs.
const (
	Unknown Codec = iota
	Opus          // RFC 7587
	VP8           // RFC 7741
	VP9           // RFC 9628
	H264          // RFC 6184
	AV1           // https://aomediacodec.github.io/av1-rtp-spec/
	RED           // RFC 2198: a sound, and again what came before it
	codecCount
)

// String returns the encoding name as SDP writes it.
func (c Codec) String() string {
	switch c {
	case Opus:
		return "opus"
	case VP8:
		return "VP8"
	case VP9:
		return "VP9"
	case H264:
		return "H264"
	case AV1:
		return "AV1"
	case RED:
		return "red"
	}
	return "unknown"
}

// ParseCodec knows a codec by its encoding name ("VP8") or MIME type ("video/VP8"), in any case
// of letters (RFC 4855 §3).
func ParseCodec(mime string) Codec {
	kind, name, ok := strings.Cut(mime, "/")
	if !ok {
		kind, name = "", mime
	}
	for c := Opus; c < codecCount; c++ {
		if strings.EqualFold(name, c.String()) && (!ok || strings.EqualFold(kind, c.Kind().String())) {
			return c
		}
	}
	return Unknown
}

// Kind returns what the codec carries.
func (c Codec) Kind() Kind {
	switch c {
	case Opus, RED:
		return KindAudio
	case VP8, VP9, H264, AV1:
		return KindVideo
	}
	return KindUnknown
}

// ClockRate returns the rate of RTP timestamps in Hz, 0 for Unknown.
func (c Codec) ClockRate() uint32 {
	switch c.Kind() {
	case KindAudio:
		return 48000
	case KindVideo:
		return 90000
	}
	return 0
}

// KeyFrame says whether a receiver can begin with the packet of this payload: a key frame of
// video starts in it, or it is audio. The payload is without padding; it is read no further than
// stays in clear under end-to-end encryption.
func KeyFrame(c Codec, payload []byte) bool {
	switch c {
	case Opus, RED:
		return len(payload) > 0
	case VP8:
		return keyFrameVP8(payload)
	case VP9:
		return keyFrameVP9(payload)
	case H264:
		return keyFrameH264(payload)
	case AV1:
		return keyFrameAV1(payload)
	}
	return false
}

// largestSide is what pictures are never wider or higher than: a packet that says so is damaged, or not of its codec.
const largestSide = 8192

// PictureSize returns how large the pictures of a stream are, as far as a packet that begins a key frame says it in the clear; 0, 0
// otherwise. Of several spatial layers it is the size of the highest.
func PictureSize(c Codec, payload []byte) (width, height uint16) {
	switch c {
	case VP8:
		width, height = sizeVP8(payload)
	case VP9:
		var d VP9Descriptor
		if d.Parse(payload) {
			width, height = d.Width, d.Height
		}
	case H264:
		width, height = sizeH264(payload)
	}
	if width == 0 || height == 0 || width > largestSide || height > largestSide {
		return 0, 0
	}
	return width, height
}
