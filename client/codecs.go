package client

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/logging"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"

	irtp "github.com/sotto-edge/sotto/internal/rtp"
)

// codec is what the client can send.
type codec struct {
	webrtc.RTPCodecParameters
	rtx     webrtc.PayloadType // 0: none
	payload func() rtp.Payloader
}

var videoFeedback = []webrtc.RTCPFeedback{
	{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}, {Type: "transport-cc"},
}

// known are the codecs by their name in publications. The payload types are the server's; pion would map others.
var known = map[string]codec{
	"opus": audio(111, webrtc.MimeTypeOpus, "minptime=10;useinbandfec=1", func() rtp.Payloader { return &codecs.OpusPayloader{} }),
	"vp8":  video(96, webrtc.MimeTypeVP8, "", func() rtp.Payloader { return &codecs.VP8Payloader{EnablePictureID: true} }),
	"vp9":  video(98, webrtc.MimeTypeVP9, "profile-id=0", func() rtp.Payloader { return &codecs.VP9Payloader{} }),
	"h264": video(102, webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
		func() rtp.Payloader { return &codecs.H264Payloader{} }),
	"av1": video(45, webrtc.MimeTypeAV1, "level-idx=5;profile=0;tier=0", func() rtp.Payloader { return &codecs.AV1Payloader{} }),
}

// order is that of registration.
var order = []string{"opus", "vp8", "vp9", "h264", "av1"}

func audio(pt webrtc.PayloadType, mime, fmtp string, payload func() rtp.Payloader) codec {
	return codec{payload: payload, RTPCodecParameters: webrtc.RTPCodecParameters{
		PayloadType: pt, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: mime, ClockRate: 48000, Channels: 2, SDPFmtpLine: fmtp, RTCPFeedback: []webrtc.RTCPFeedback{{Type: "transport-cc"}},
		},
	}}
}

func video(pt webrtc.PayloadType, mime, fmtp string, payload func() rtp.Payloader) codec {
	return codec{rtx: pt + 1, payload: payload, RTPCodecParameters: webrtc.RTPCodecParameters{
		PayloadType: pt, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: mime, ClockRate: 90000, SDPFmtpLine: fmtp, RTCPFeedback: videoFeedback,
		},
	}}
}

func (c codec) kind() webrtc.RTPCodecType {
	if strings.HasPrefix(c.MimeType, "audio/") {
		return webrtc.RTPCodecTypeAudio
	}
	return webrtc.RTPCodecTypeVideo
}

// retransmission is the codec's retransmission format (RFC 4588 §8.1).
func (c codec) retransmission() webrtc.RTPCodecParameters {
	return webrtc.RTPCodecParameters{PayloadType: c.rtx, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeRTX, ClockRate: c.ClockRate, SDPFmtpLine: "apt=" + strconv.Itoa(int(c.PayloadType)),
	}}
}

// preference is the codec with its retransmission format.
func (c codec) preference() []webrtc.RTPCodecParameters {
	if c.rtx == 0 {
		return []webrtc.RTPCodecParameters{c.RTPCodecParameters}
	}
	return []webrtc.RTPCodecParameters{c.RTPCodecParameters, c.retransmission()}
}

// register tells pion which codecs and header extensions there are.
func register(e *webrtc.MediaEngine) error {
	var errs []error
	for _, name := range order {
		for _, p := range known[name].preference() {
			errs = append(errs, e.RegisterCodec(p, known[name].kind()))
		}
	}
	for _, x := range []struct {
		uri          string
		audio, video bool
	}{
		{irtp.URIMID, true, true},
		{irtp.URIRID, false, true},
		{irtp.URIRepairedRID, false, true},
		{irtp.URITransportCC, true, true},
		{irtp.URIAbsSendTime, true, true},
		{irtp.URIAudioLevel, true, false},
		{irtp.URIVideoOrientation, false, true},
		{irtp.URIDependencyDescriptor, false, true},
	} {
		capability := webrtc.RTPHeaderExtensionCapability{URI: x.uri}
		if x.audio {
			errs = append(errs, e.RegisterHeaderExtension(capability, webrtc.RTPCodecTypeAudio))
		}
		if x.video {
			errs = append(errs, e.RegisterHeaderExtension(capability, webrtc.RTPCodecTypeVideo))
		}
	}
	return errors.Join(errs...)
}

// intercept builds the chain of pion's interceptors. The first is nearest to the wire: a retransmission gets its own transport-wide
// number, and its rid becomes a repaired rid.
func intercept(r *interceptor.Registry, log logging.LoggerFactory, feedback bool) error {
	numbers, err := twcc.NewHeaderExtensionInterceptor()
	if err != nil {
		return err
	}
	responder, err := nack.NewResponderInterceptor(nack.WithResponderLoggerFactory(log))
	if err != nil {
		return err
	}
	senders, err := report.NewSenderInterceptor(report.WithSenderLoggerFactory(log))
	if err != nil {
		return err
	}
	r.Add(numbers)
	r.Add(&repairs{})
	r.Add(responder)
	r.Add(senders)
	if !feedback {
		return nil
	}
	// Not pion's generator of NACKs: it does not see what came by retransmission, and asks for it again and again. Slots do it.
	receivers, err := report.NewReceiverInterceptor(report.WithReceiverLoggerFactory(log))
	if err != nil {
		return err
	}
	arrivals, err := twcc.NewSenderInterceptor(twcc.WithLoggerFactory(log))
	if err != nil {
		return err
	}
	r.Add(receivers)
	r.Add(arrivals)
	return nil
}

// repairs is the interceptor that names the layer a retransmission repairs: pion's responder repeats the header of the original,
// but on the retransmission stream the layer stands in another extension (RFC 8852 §3.2).
type repairs struct{ interceptor.NoOp }

// NewInterceptor implements interceptor.Factory.
func (*repairs) NewInterceptor(string) (interceptor.Interceptor, error) { return &repairs{}, nil }

// BindLocalStream implements interceptor.Interceptor.
func (*repairs) BindLocalStream(info *interceptor.StreamInfo, next interceptor.RTPWriter) interceptor.RTPWriter {
	var rid, repaired uint8
	for _, x := range info.RTPHeaderExtensions {
		switch x.URI {
		case irtp.URIRID:
			rid = uint8(x.ID)
		case irtp.URIRepairedRID:
			repaired = uint8(x.ID)
		}
	}
	if info.SSRCRetransmission == 0 || rid == 0 || repaired == 0 {
		return next
	}
	return interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, a interceptor.Attributes) (int, error) {
		if layer := h.GetExtension(rid); h.SSRC == info.SSRCRetransmission && layer != nil {
			if err := errors.Join(h.DelExtension(rid), h.SetExtension(repaired, layer)); err != nil {
				return 0, fmt.Errorf("client: retransmission: %w", err)
			}
		}
		return next.Write(h, payload, a)
	})
}
