package whip

import (
	"strings"
	"testing"

	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/rfc8888"
	"github.com/pion/webrtc/v4"
)

// A viewer that tells of arrivals by stream (RFC 8888, pion's implementation) is understood.
func TestFeedbackByStream(t *testing.T) {
	w := newWorld(t, nil)
	w.publisher(1e6)
	view := w.watch(w.peer(func(engine *webrtc.MediaEngine, registry *interceptor.Registry) {
		engine.RegisterFeedback(webrtc.RTCPFeedback{Type: "ack", Parameter: "ccfb"}, webrtc.RTPCodecTypeAudio)
		engine.RegisterFeedback(webrtc.RTCPFeedback{Type: "ack", Parameter: "ccfb"}, webrtc.RTPCodecTypeVideo)
		f, err := rfc8888.NewSenderInterceptor()
		if err != nil {
			t.Fatal(err)
		}
		registry.Add(f)
	}))
	if n := strings.Count(view.answer, "a=rtcp-fb:* ack ccfb\r\n"); n != 2 {
		t.Errorf("the answer has it %d times:\n%s", n, view.answer)
	}
	view.sees(1e6)
	w.until("feedback", func() bool {
		st, err := w.node.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.Forward.MalformedRTCP != 0 || st.Forward.IgnoredRTCP != 0 {
			t.Fatalf("%+v", st.Forward)
		}
		return st.Forward.FeedbackIn > 5
	})
}
