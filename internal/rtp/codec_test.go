package rtp

import (
	"slices"
	"testing"
)

func TestParseCodec(t *testing.T) {
	for _, tt := range []struct {
		mime string
		want Codec
	}{
		{"opus", Opus},
		{"audio/opus", Opus},
		{"AUDIO/OPUS", Opus},
		{"VP8", VP8},
		{"vp8", VP8},
		{"video/VP8", VP8},
		{"vp9", VP9},
		{"video/VP9", VP9},
		{"h264", H264},
		{"video/H264", H264},
		{"av1", AV1},
		{"video/AV1", AV1},
		{"", Unknown},
		{"/", Unknown},
		{"unknown", Unknown},
		{"unknown/unknown", Unknown},
		{"video/rtx", Unknown},
		{"audio/red", RED},
		{"red", RED},
		{"video/red", Unknown},
		{"audio/VP8", Unknown},
		{"video/opus", Unknown},
		{"/VP8", Unknown},
		{"video/", Unknown},
		{"VP88", Unknown},
		{"video/VP8/x", Unknown},
	} {
		if got := ParseCodec(tt.mime); got != tt.want {
			t.Errorf("%q is %v, want %v", tt.mime, got, tt.want)
		}
	}
}

func TestCodecProperties(t *testing.T) {
	for _, tt := range []struct {
		codec Codec
		name  string
		kind  Kind
		media string
		rate  uint32
	}{
		{Unknown, "unknown", KindUnknown, "unknown", 0},
		{Opus, "opus", KindAudio, "audio", 48000},
		{VP8, "VP8", KindVideo, "video", 90000},
		{VP9, "VP9", KindVideo, "video", 90000},
		{H264, "H264", KindVideo, "video", 90000},
		{AV1, "AV1", KindVideo, "video", 90000},
		{RED, "red", KindAudio, "audio", 48000},
		{200, "unknown", KindUnknown, "unknown", 0},
	} {
		c := tt.codec
		if c.String() != tt.name || c.Kind() != tt.kind || c.Kind().String() != tt.media || c.ClockRate() != tt.rate {
			t.Errorf("%d: %s %v %d", c, c, c.Kind(), c.ClockRate())
		}
	}
}

// Sequence parameter sets as x264 writes them: 320x180, 1280x720, and 1920x1080 in fields, which are cropped.
var (
	spsBaseline = []byte{
		0x67, 0x42, 0xc0, 0x0c, 0xd9, 0x01, 0x41, 0x9f, 0x9f, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x01, 0xe0, 0xf1, 0x42, 0xa4, 0x80,
	}
	spsHigh = []byte{
		0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x01, 0xe0, 0xf1, 0x83, 0x19, 0x60,
	}
	spsFields = []byte{
		0x67, 0x4d, 0x40, 0x28, 0xec, 0xa0, 0x3c, 0x02, 0x27, 0xef, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x01, 0xe1, 0xf1, 0x62, 0xd9, 0x60,
	}
)

// A size is read for every key frame, on the packet path.
func TestPictureSizeDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { PictureSize(H264, spsHigh) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPictureSize(t *testing.T) {
	for _, tt := range []struct {
		name          string
		codec         Codec
		payload       []byte
		width, height uint16
	}{
		{"vp8", VP8, []byte{0x10, 0x50, 0x30, 0x01, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02}, 1280, 720},
		{"vp8, extended, scaled", VP8, []byte{0x90, 0x80, 0x11, 0x50, 0x30, 0x01, 0x9d, 0x01, 0x2a, 0x40, 0xc1, 0xb4, 0x40}, 320, 180},
		{"vp8 delta", VP8, []byte{0x10, 0x51, 0x30, 0x01, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02}, 0, 0},
		{"vp8 going on", VP8, []byte{0x00, 0x50, 0x30, 0x01, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02}, 0, 0},
		{"vp8, encrypted", VP8, []byte{0x10, 0x50, 0x30, 0x01, 0x9c, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02}, 0, 0},
		{"vp8, no such picture", VP8, []byte{0x10, 0x50, 0x30, 0x01, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xd0, 0x02}, 0, 0},
		{"vp8 cut off", VP8, []byte{0x10, 0x50, 0x30, 0x01, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0}, 0, 0},
		{"vp9 as browsers send it", VP9, []byte{0xab, 0x80, 0x01, 0x00, 0x05, 0x18, 1, 64, 0, 180, 1, 0x14, 1, 0x82}, 320, 180},
		{"vp9, two layers", VP9, []byte{0x0a, 0x30, 1, 64, 0, 180, 2, 128, 1, 104, 0x82}, 640, 360},
		{"vp9 that does not say", VP9, []byte{0x08, 0x00}, 0, 0},
		{"opus", Opus, []byte{0xfc, 1}, 0, 0},
		{"h264, baseline", H264, spsBaseline, 320, 180},
		{"h264, high, with its picture parameters", H264, slices.Concat([]byte{0x78, 0, byte(len(spsHigh))}, spsHigh, []byte{0, 4, 0x68, 0xce, 0x3c, 0x80}), 1280, 720},
		{"h264, behind a delimiter, interlaced", H264, slices.Concat([]byte{0x78, 0, 2, 0x09, 0x10, 0, byte(len(spsFields))}, spsFields), 1920, 1080},
		{"h264, cut off", H264, spsBaseline[:8], 0, 0},
		{"h264, in a packet that is cut off", H264, slices.Concat([]byte{0x78, 0, byte(len(spsHigh) + 1)}, spsHigh), 0, 0},
		{"h264, encrypted behind its header", H264, []byte{0x67, 0xd1, 0x33, 0x8a, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 0, 0},
		{"h264, a slice", H264, []byte{0x65, 0x88, 0x84, 0x00, 0x10}, 0, 0},
		{"h264, nothing", H264, nil, 0, 0},
	} {
		if w, h := PictureSize(tt.codec, tt.payload); w != tt.width || h != tt.height {
			t.Errorf("%s: %d x %d, want %d x %d", tt.name, w, h, tt.width, tt.height)
		}
	}
}

func TestKeyFrame(t *testing.T) {
	for _, tt := range []struct {
		name    string
		codec   Codec
		payload []byte
		want    bool
	}{
		{"opus", Opus, []byte{0xfc, 1}, true},
		{"opus, empty", Opus, nil, false},
		{"rtx", Unknown, []byte{0x10, 0x00}, false},

		{"vp8 key", VP8, []byte{0x10, 0x00, 0x9d}, true},
		{"vp8 key, extended", VP8, []byte{0x90, 0xf0, 0x81, 0x02, 7, 0x20, 0x00}, true},
		{"vp8 key, short picture id", VP8, []byte{0x90, 0x80, 0x11, 0x00}, true},
		{"vp8 key, no reference", VP8, []byte{0x30, 0x00}, true},
		{"vp8 delta", VP8, []byte{0x10, 0x01}, false},
		{"vp8 delta, extended", VP8, []byte{0x90, 0xf0, 0x81, 0x02, 7, 0x20, 0x01}, false},
		{"vp8 going on", VP8, []byte{0x00, 0x00}, false},
		{"vp8 second partition", VP8, []byte{0x11, 0x00}, false},
		{"vp8 descriptor alone", VP8, []byte{0x10}, false},
		{"vp8 cut off", VP8, []byte{0x90, 0xf0, 0x81, 0x02, 7}, false},

		{"vp9 key", VP9, []byte{0x08, 0x00}, true},
		{"vp9 key as browsers send it", VP9, []byte{0xab, 0x80, 0x01, 0x00, 0x05, 0x18, 1, 64, 0, 180, 1, 0x14, 1, 0x82}, true},
		{"vp9 key, flexible", VP9, []byte{0xb8, 0x01, 0x00, 0x82}, true},
		{"vp9 upper layer of a key picture", VP9, []byte{0xa8, 0x01, 0x03, 0x05, 0x82}, false},
		{"vp9 inter", VP9, []byte{0x48, 0x00}, false},
		{"vp9 going on", VP9, []byte{0x04, 0x00}, false},
		{"vp9 cut off", VP9, []byte{0xa8, 0x80}, false},

		{"h264 idr", H264, []byte{0x65, 0x88}, true},
		{"h264 sps", H264, []byte{0x67, 0x42}, true},
		{"h264 pps", H264, []byte{0x68, 0xce}, false},
		{"h264 slice", H264, []byte{0x41, 0x9a}, false},
		{"h264 sei", H264, []byte{0x06, 0x05}, false},
		{"h264 stap-a sps pps", H264, []byte{0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xce}, true},
		{"h264 stap-a sei idr", H264, []byte{0x78, 0, 1, 0x06, 0, 2, 0x65, 0x88}, true},
		{"h264 stap-a slices", H264, []byte{0x78, 0, 2, 0x41, 0x65, 0, 2, 0x41, 0x67}, false},
		{"h264 stap-a cut off", H264, []byte{0x78, 0, 9, 0x67}, false},
		{"h264 stap-a of nothing", H264, []byte{0x78, 0, 0, 0x67}, false},
		{"h264 stap-a alone", H264, []byte{0x78}, false},
		{"h264 fu-a idr start", H264, []byte{0x7c, 0x85, 0x88}, true},
		{"h264 fu-a sps start", H264, []byte{0x7c, 0x87}, true},
		{"h264 fu-a idr middle", H264, []byte{0x7c, 0x05, 0x88}, false},
		{"h264 fu-a idr end", H264, []byte{0x7c, 0x45, 0x88}, false},
		{"h264 fu-a slice start", H264, []byte{0x7c, 0x81, 0x9a}, false},
		{"h264 fu-a alone", H264, []byte{0x7c}, false},

		{"av1 sequence start", AV1, []byte{0x18, 0x0a}, true},
		{"av1 sequence start, fragmented", AV1, []byte{0x58, 0x0a}, true},
		{"av1 inter", AV1, []byte{0x10, 0x32}, false},
		{"av1 going on", AV1, []byte{0x98, 0x32}, false},
		{"av1 header alone", AV1, []byte{0x08}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := KeyFrame(tt.codec, tt.payload); got != tt.want {
				t.Errorf("got %t", got)
			}
		})
	}
	for c := range Codec(8) {
		if KeyFrame(c, nil) || KeyFrame(c, []byte{}) {
			t.Errorf("%v: a key frame in nothing", c)
		}
	}
}
