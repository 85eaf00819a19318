// Package sdp writes the offers that Sotto makes and reads the answers that browsers give (RFC 8866, 8829, 3264), and the other way
// round for clients that offer.
//
// It is text on one side and the plain types of package sfu on the other. WriteOffer produces what Chromium and Firefox accept as
// answerers; ParseAnswer takes what they answer, ParseOffer what clients offer, within bounds, and their errors name the line. Whether
// an answer fits its offer is for the one who made the offer to judge. A Fragment is the little that trickling and ICE restarts
// exchange over HTTP. There is no session state here.
package sdp

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sotto-edge/sotto/sfu"
)

// WriteOffer returns the text of an offer. All values come from this server; none may hold a line end.
func WriteOffer(o sfu.Offer) string {
	w := writer{setup: "actpass"}
	return w.write(&o)
}

// WriteAnswer returns the text of an answer to a client's offer, in which the server waits for the DTLS handshake to begin. What it
// describes was agreed; the MIDs and formats are the client's.
func WriteAnswer(o sfu.Offer) string {
	w := writer{setup: "passive"}
	return w.write(&o)
}

type writer struct {
	strings.Builder
	setup string
}

func (w *writer) write(o *sfu.Offer) string {
	w.session(o)
	first := true
	for i := range o.Sections {
		w.section(o, &o.Sections[i], first)
		first = first && o.Sections[i].Rejected
	}
	return w.String()
}

// line writes one line of its parts.
func (w *writer) line(parts ...string) {
	for _, p := range parts {
		w.WriteString(p)
	}
	w.WriteString("\r\n")
}

func (w *writer) session(o *sfu.Offer) {
	w.line("v=0")
	// The version grows by one with every offer (RFC 3264 §8); the id stays the same for one server.
	w.line("o=- ", strconv.FormatUint(sessionID(o.Fingerprint.Value), 10), " ", strconv.Itoa(o.Number), " IN IP4 0.0.0.0")
	w.line("s=-")
	w.line("t=0 0")
	// A section out of use must not stand in the group (RFC 9143 §7.2.1).
	var group []string
	for _, s := range o.Sections {
		if !s.Rejected {
			group = append(group, s.MID)
		}
	}
	if len(group) > 0 {
		w.line("a=group:BUNDLE ", strings.Join(group, " "))
	}
	if w.setup == "actpass" { // an answer may not say so unless the offer did
		w.line("a=extmap-allow-mixed")
	}
	w.line("a=msid-semantic:WMS *")
	w.line("a=ice-options:trickle renomination")
	w.line("a=fingerprint:", o.Fingerprint.Algorithm, " ", o.Fingerprint.Value)
}

func sessionID(fingerprint string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(fingerprint))
	return h.Sum64() >> 2 // 62 bits: "numeric string" that every parser holds in a signed 64-bit integer
}

func (w *writer) section(o *sfu.Offer, s *sfu.Section, tagged bool) {
	if s.Data != 0 {
		w.data(o, s, tagged)
		return
	}
	var formats []string
	for _, c := range s.Codecs {
		formats = append(formats, itoa(c.PayloadType))
		if c.RTX != 0 {
			formats = append(formats, itoa(c.RTX))
		}
	}
	if len(formats) == 0 {
		formats = []string{"0"} // the grammar wants one (RFC 8866 §9)
	}
	// 9 is the port of a section whose candidates stand in attributes (RFC 8840 §4.1.1), 0 that of one out of use.
	port := "9"
	if s.Rejected {
		port = "0"
	}
	w.line("m=", s.Kind.String(), " ", port, " UDP/TLS/RTP/SAVPF ", strings.Join(formats, " "))
	w.line("c=IN IP4 0.0.0.0")
	w.line("a=mid:", s.MID)
	if s.Rejected {
		w.line("a=inactive")
		w.codecs(s)
		return
	}
	w.line("a=", s.Direction.String())
	w.line("a=ice-ufrag:", o.ICE.Ufrag)
	w.line("a=ice-pwd:", o.ICE.Pwd)
	w.line("a=setup:", w.setup)
	w.line("a=rtcp-mux")
	w.line("a=rtcp-rsize")
	if w.setup == "actpass" { // an answer may say so only if the offer did (RFC 3611 §5.3)
		w.line("a=rtcp-xr:rcvr-rtt=all")
	}
	w.codecs(s)
	for _, e := range s.Extensions {
		w.line("a=extmap:", itoa(e.ID), " ", e.URI)
	}
	switch s.Direction {
	case sfu.RecvOnly:
		w.simulcast(s.RIDs)
	case sfu.SendOnly:
		w.stream(s)
	}
	if tagged {
		w.candidates(o.ICE.Candidates)
	}
}

// data writes a section for data channels (RFC 8841 §5).
func (w *writer) data(o *sfu.Offer, s *sfu.Section, tagged bool) {
	port := "9"
	if s.Rejected {
		port = "0"
	}
	w.line("m=application ", port, " UDP/DTLS/SCTP webrtc-datachannel")
	w.line("c=IN IP4 0.0.0.0")
	w.line("a=mid:", s.MID)
	if !s.Rejected {
		w.line("a=ice-ufrag:", o.ICE.Ufrag)
		w.line("a=ice-pwd:", o.ICE.Pwd)
		w.line("a=setup:", w.setup)
	}
	w.line("a=sctp-port:5000")
	w.line("a=max-message-size:", strconv.Itoa(s.Data))
	if tagged && !s.Rejected {
		w.candidates(o.ICE.Candidates)
	}
}

func (w *writer) codecs(s *sfu.Section) {
	for _, c := range s.Codecs {
		pt := itoa(c.PayloadType)
		w.rtpmap(pt, c.Name, c.ClockRate, c.Channels)
		for _, f := range c.Feedback {
			if f != sfu.FeedbackCongestion {
				w.line("a=rtcp-fb:", pt, " ", f)
			}
		}
		if c.FMTP != "" {
			w.line("a=fmtp:", pt, " ", c.FMTP)
		}
		if c.RTX != 0 {
			w.rtpmap(itoa(c.RTX), "rtx", c.ClockRate, 0)
			w.line("a=fmtp:", itoa(c.RTX), " apt=", pt)
		}
	}
	if len(s.Codecs) > 0 && slices.Contains(s.Codecs[0].Feedback, sfu.FeedbackCongestion) {
		w.line("a=rtcp-fb:* ", sfu.FeedbackCongestion) // of no format in particular (RFC 8888 §6)
	}
}

func (w *writer) rtpmap(pt, name string, clockRate, channels int) {
	w.WriteString("a=rtpmap:" + pt + " " + name + "/" + strconv.Itoa(clockRate))
	if channels > 1 {
		w.WriteString("/" + strconv.Itoa(channels))
	}
	w.line()
}

// simulcast asks for several encodings (RFC 8853 §5.1). Both browsers scale by the position: 4, 2, 1 for three.
func (w *writer) simulcast(rids []string) {
	if len(rids) == 0 {
		return
	}
	for _, r := range rids {
		w.line("a=rid:", r, " recv")
	}
	w.line("a=simulcast:recv ", strings.Join(rids, ";"))
}

// stream announces what will be sent. Firefox binds packets to sections by SSRC before it has seen a mid extension, so the SSRCs
// are written although the mid would do.
func (w *writer) stream(s *sfu.Section) {
	stream := s.StreamID
	if stream == "" {
		stream = "-" // no MediaStream (RFC 8830 §2)
	}
	w.line("a=msid:", stream, " track-", s.MID)
	if s.SSRC == 0 {
		return
	}
	ssrc := strconv.FormatUint(uint64(s.SSRC), 10)
	if s.RTXSSRC != 0 {
		rtx := strconv.FormatUint(uint64(s.RTXSSRC), 10)
		w.line("a=ssrc-group:FID ", ssrc, " ", rtx) // RFC 5576 §4.2
		w.line("a=ssrc:", ssrc, " cname:", s.CNAME)
		w.line("a=ssrc:", rtx, " cname:", s.CNAME)
		return
	}
	w.line("a=ssrc:", ssrc, " cname:", s.CNAME)
}

func (w *writer) candidates(list []sfu.Candidate) {
	for _, c := range list {
		transport, kind := " 1 udp ", ""
		if c.TCP {
			transport, kind = " 1 tcp ", " tcptype passive" // RFC 6544 §4.5
		}
		w.line("a=candidate:", c.Foundation, transport, strconv.FormatUint(uint64(c.Priority), 10), " ",
			address(c.Addr.Addr()), " ", strconv.Itoa(int(c.Addr.Port())), " typ host", kind)
	}
	w.line("a=end-of-candidates") // RFC 8840 §8.2: all are here
}

// address is RFC 8839 §5.1: no zone, and IPv4 never in its IPv6 form.
func address(a netip.Addr) string { return a.Unmap().WithZone("").String() }

func itoa(n uint8) string { return strconv.Itoa(int(n)) }
