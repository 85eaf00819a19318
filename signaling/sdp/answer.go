package sdp

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sotto-edge/sotto/sfu"
)

// Bounds of an answer. A browser's answer to the largest offer stays well inside.
const (
	MaxBytes    = 64 << 10
	maxLines    = 8192
	maxSections = 128
	maxCodecs   = 64 // formats of a section
	maxMaps     = 64 // header extensions of a section
	maxRIDs     = 8
	maxSSRCs    = 32
	maxValue    = 512 // of a token: ufrag, mid, rid
)

// Error is a fault of an answer. It names the line, counted from 1; 0 stands for the text as a whole.
type Error struct {
	Line int
	What string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Line == 0 {
		return "sdp: " + e.What
	}
	return "sdp: line " + strconv.Itoa(e.Line) + ": " + e.What
}

// ParseAnswer reads an answer. What Sotto does not use (candidates, bandwidth, unknown attributes) is skipped; what it relies on
// must be there and well-formed: one BUNDLE group over every section in use, rtcp-mux, one pair of ICE credentials, one
// certificate.
func ParseAnswer(text string) (sfu.Answer, error) {
	p := parser{}
	if err := p.read(text); err != nil {
		return sfu.Answer{}, err
	}
	return p.finish()
}

// read takes the lines.
func (p *parser) read(text string) error {
	if len(text) > MaxBytes {
		return &Error{0, fmt.Sprintf("%d bytes, %d are allowed", len(text), MaxBytes)}
	}
	n := 0
	for raw := range strings.SplitSeq(text, "\n") {
		n++
		p.line = n
		if n > maxLines {
			return p.errorf("more than %d lines", maxLines)
		}
		line := strings.TrimSuffix(raw, "\r")
		if line == "" {
			continue // behind the last line; browsers write none elsewhere
		}
		if err := p.take(line); err != nil {
			return err
		}
	}
	return nil
}

// transport are the attributes that may stand in the session or in any section, and mean one thing because of BUNDLE.
type transport struct {
	ufrag, pwd, setup string
	fingerprint       sfu.Fingerprint
}

// section is an m-line while it is read.
type section struct {
	sfu.AnswerSection
	transport
	line       int
	kind       string
	formats    []string
	maps       map[string]sfu.Codec // by format, from rtpmap
	fmtp       map[string]string
	feedback   map[string][]string
	direction  string
	rtcpMux    bool
	simulcast  []string
	repaired   map[uint32]uint32 // retransmission by media SSRC
	repairing  map[uint32]bool
	directions int
	bundleOnly bool
	sized      bool              // it says how large messages may be
	limits     map[string]uint64 // by rid
}

type parser struct {
	offer    bool // of a client, not an answer
	line     int
	started  bool
	session  transport
	group    []string
	grouped  bool
	sections []*section
}

func (p *parser) errorf(format string, args ...any) error {
	return &Error{p.line, fmt.Sprintf(format, args...)}
}

func (p *parser) take(line string) error {
	if len(line) < 2 || line[1] != '=' {
		return p.errorf("want a letter and an equals sign, have %.20q", line)
	}
	kind, value := line[0], line[2:]
	if strings.ContainsAny(value, "\x00\r") {
		return p.errorf("a control character")
	}
	if !p.started {
		if kind != 'v' || value != "0" {
			return p.errorf("want v=0 first, have %.20q", line)
		}
		p.started = true
		return nil
	}
	switch kind {
	case 'm':
		return p.media(value)
	case 'a':
		name, value, _ := strings.Cut(value, ":")
		if len(p.sections) == 0 {
			return p.sessionAttribute(name, value)
		}
		return p.attribute(p.sections[len(p.sections)-1], name, value)
	case 'o', 's', 'i', 'u', 'e', 'p', 'c', 'b', 't', 'r', 'z', 'k':
		return nil
	}
	return p.errorf("unknown line type %q", kind)
}

func (p *parser) media(value string) error {
	if len(p.sections) == maxSections {
		return p.errorf("more than %d m-lines", maxSections)
	}
	f := strings.Fields(value)
	if len(f) < 4 {
		return p.errorf("an m-line of %d fields, want kind, port, protocol and formats", len(f))
	}
	port, err := strconv.ParseUint(f[1], 10, 16)
	if err != nil {
		return p.errorf("port %.20q is not a number", f[1])
	}
	if len(f)-3 > maxCodecs {
		return p.errorf("more than %d formats", maxCodecs)
	}
	s := &section{line: p.line, kind: f[0], formats: f[3:]}
	s.Rejected = port == 0
	if f[0] == "application" && !p.offer {
		s.Data = true
		if !s.Rejected && (f[2] != "UDP/DTLS/SCTP" || f[3] != "webrtc-datachannel") {
			return p.errorf("%.30q, want UDP/DTLS/SCTP webrtc-datachannel", f[2]+" "+f[3])
		}
	} else if !s.Rejected || p.offer {
		if f[0] != "audio" && f[0] != "video" {
			return p.errorf("a section of kind %.20q, only audio and video are spoken", f[0])
		}
		if f[2] != "UDP/TLS/RTP/SAVPF" {
			return p.errorf("protocol %.30q, want UDP/TLS/RTP/SAVPF", f[2])
		}
	}
	p.sections = append(p.sections, s)
	return nil
}

func (p *parser) sessionAttribute(name, value string) error {
	if name == "group" {
		kind, mids, _ := strings.Cut(value, " ")
		if kind != "BUNDLE" {
			return nil
		}
		if p.grouped {
			return p.errorf("a second BUNDLE group")
		}
		p.group, p.grouped = strings.Fields(mids), true
		if len(p.group) > maxSections {
			return p.errorf("a BUNDLE group of more than %d", maxSections)
		}
		return nil
	}
	if name == "ice-lite" {
		return p.errorf("ice-lite: the client must do full ICE")
	}
	return p.transport(&p.session, name, value)
}

func (p *parser) transport(t *transport, name, value string) error {
	switch name {
	case "ice-ufrag":
		return p.credential(&t.ufrag, name, value, 4)
	case "ice-pwd":
		return p.credential(&t.pwd, name, value, 22)
	case "setup":
		switch value {
		case "active", "passive":
			t.setup = value
		case "actpass":
			if !p.offer {
				return p.errorf("setup:actpass, want active")
			}
			t.setup = value
		default:
			return p.errorf("setup:%.20s, want active", value)
		}
	case "fingerprint":
		return p.fingerprint(t, value)
	}
	return nil
}

// credential is RFC 8839 §5.4: 4 or 22 to 256 characters out of ice-char.
func (p *parser) credential(into *string, name, value string, least int) error {
	if len(value) < least || len(value) > 256 {
		return p.errorf("%s of %d characters, want %d to 256", name, len(value), least)
	}
	for i := range len(value) {
		c := value[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/') {
			return p.errorf("%s holds %q", name, c)
		}
	}
	*into = value
	return nil
}

// hashes are the functions of RFC 8122 §5 that are good enough, with the length of their value.
var hashes = map[string]int{"sha-256": 32, "sha-384": 48, "sha-512": 64}

// fingerprint keeps the best known hash; a certificate may be named by several (RFC 8122 §5).
func (p *parser) fingerprint(t *transport, value string) error {
	algorithm, sum, _ := strings.Cut(value, " ")
	algorithm = strings.ToLower(algorithm)
	size, ok := hashes[algorithm]
	if !ok {
		return nil
	}
	octets, err := hex.DecodeString(strings.ReplaceAll(sum, ":", ""))
	if err != nil || len(octets) != size || len(sum) != 3*size-1 {
		return p.errorf("fingerprint: want %d octets in hexadecimal with colons between", size)
	}
	if size > hashes[t.fingerprint.Algorithm] {
		t.fingerprint = sfu.Fingerprint{Algorithm: algorithm, Value: strings.ToUpper(sum)}
	}
	return nil
}

func (p *parser) attribute(s *section, name, value string) error {
	switch name {
	case "mid":
		if err := p.token(name, value); err != nil {
			return err
		}
		if s.MID != "" {
			return p.errorf("a second mid")
		}
		s.MID = value
	case "sendonly", "recvonly", "inactive", "sendrecv":
		if s.directions++; s.directions > 1 {
			return p.errorf("a second direction")
		}
		s.direction = name
	case "rtcp-mux":
		s.rtcpMux = true
	case "rtpmap":
		return p.rtpmap(s, value)
	case "fmtp":
		pt, parameters, ok := strings.Cut(value, " ")
		if !ok {
			return p.errorf("fmtp without parameters")
		}
		set(&s.fmtp, pt, parameters)
	case "rtcp-fb":
		pt, what, ok := strings.Cut(value, " ")
		if !ok {
			return p.errorf("rtcp-fb without a value")
		}
		if len(s.feedback[pt]) < maxCodecs {
			set(&s.feedback, pt, append(s.feedback[pt], what))
		}
	case "extmap":
		return p.extmap(s, value)
	case "rid":
		return p.rid(s, value)
	case "simulcast":
		return p.simulcast(s, value)
	case "ssrc":
		return p.ssrc(s, value)
	case "ssrc-group":
		return p.ssrcGroup(s, value)
	case "max-message-size":
		if !s.Data {
			return nil
		}
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil {
			return p.errorf("max-message-size %.20q", value)
		}
		s.Largest = int(min(n, 1<<30))
		s.sized = true
	case "bundle-only":
		if !p.offer {
			return p.errorf("bundle-only in an answer")
		}
		s.bundleOnly = true
	default:
		return p.transport(&s.transport, name, value)
	}
	return nil
}

func set[V any](m *map[string]V, k string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[k] = v
}

// token is RFC 8866 §9: visible ASCII without separators, as far as it matters here.
func (p *parser) token(name, value string) error {
	if value == "" || len(value) > maxValue {
		return p.errorf("%s of %d characters", name, len(value))
	}
	for i := range len(value) {
		if value[i] <= ' ' || value[i] >= 0x7f {
			return p.errorf("%s holds %q", name, value[i])
		}
	}
	return nil
}

func (p *parser) rtpmap(s *section, value string) error {
	pt, encoding, ok := strings.Cut(value, " ")
	if !ok {
		return p.errorf("rtpmap without an encoding")
	}
	n, err := strconv.ParseUint(pt, 10, 7)
	if err != nil {
		return p.errorf("payload type %.20q", pt)
	}
	f := strings.Split(encoding, "/")
	if len(f) < 2 || len(f) > 3 || p.token("encoding", f[0]) != nil {
		return p.errorf("rtpmap %.40q, want name/clock", encoding)
	}
	c := sfu.Codec{PayloadType: uint8(n), Name: f[0]}
	if c.ClockRate, err = strconv.Atoi(f[1]); err != nil || c.ClockRate <= 0 || c.ClockRate > 1e6 {
		return p.errorf("clock rate %.20q", f[1])
	}
	if len(f) == 3 {
		if c.Channels, err = strconv.Atoi(f[2]); err != nil || c.Channels < 1 || c.Channels > 8 {
			return p.errorf("%.20q channels", f[2])
		}
	}
	if len(s.maps) == maxCodecs {
		return p.errorf("more than %d rtpmaps", maxCodecs)
	}
	set(&s.maps, pt, c)
	return nil
}

// extmap is RFC 8285 §8: an id of one or two digits' worth, perhaps a direction, a URI, perhaps attributes.
func (p *parser) extmap(s *section, value string) error {
	f := strings.Fields(value)
	if len(f) < 2 {
		return p.errorf("extmap without a URI")
	}
	id, _, _ := strings.Cut(f[0], "/")
	n, err := strconv.ParseUint(id, 10, 8)
	if err != nil || n == 0 {
		return p.errorf("extmap id %.20q, want 1 to 255", id)
	}
	if len(s.Extensions) == maxMaps {
		return p.errorf("more than %d extmaps", maxMaps)
	}
	for _, e := range s.Extensions {
		if e.ID == uint8(n) {
			return p.errorf("extmap id %d twice", n)
		}
	}
	s.Extensions = append(s.Extensions, sfu.Extension{ID: uint8(n), URI: f[1]})
	return nil
}

func (p *parser) rid(s *section, value string) error {
	f := strings.Fields(value)
	if len(f) < 2 {
		return p.errorf("rid without a direction")
	}
	if err := p.ridName(f[0]); err != nil || f[1] != "send" {
		return err // what the client would receive by RID, Sotto does not send
	}
	if len(s.RIDs) == maxRIDs {
		return p.errorf("more than %d rids", maxRIDs)
	}
	s.RIDs = append(s.RIDs, f[0])
	if n := ridLimit(f[2:]); n > 0 {
		set(&s.limits, f[0], n)
	}
	return nil
}

// ridLimit returns what a rid's restrictions (RFC 8851 §5) say of its size, 0 if nothing: pixels a side or in all, or bits per
// second. Only those of one kind compare, and offers use one kind.
func ridLimit(fields []string) uint64 {
	for _, f := range fields {
		for r := range strings.SplitSeq(f, ";") {
			k, v, _ := strings.Cut(r, "=")
			switch k {
			case "max-width", "max-height", "max-fs", "max-br", "max-pps":
				if n, err := strconv.ParseUint(v, 10, 63); err == nil {
					return n
				}
			}
		}
	}
	return 0
}

// ridName is RFC 8851 §10: letters, digits, and by erratum no more.
func (p *parser) ridName(r string) error {
	if r == "" || len(r) > 16 {
		return p.errorf("a rid of %d characters, want 1 to 16", len(r))
	}
	for i := range len(r) {
		c := r[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return p.errorf("a rid holds %q", c)
		}
	}
	return nil
}

// simulcast is RFC 8853 §5.1. Of alternatives the first counts, and a paused encoding counts like any other: the client may
// start it at any time.
func (p *parser) simulcast(s *section, value string) error {
	f := strings.Fields(value)
	for i := 0; i+1 < len(f); i += 2 {
		if f[i] != "send" {
			continue
		}
		if s.simulcast != nil {
			return p.errorf("simulcast:send twice")
		}
		s.simulcast = []string{}
		for _, alternatives := range strings.Split(f[i+1], ";") {
			r, _, _ := strings.Cut(alternatives, ",")
			r = strings.TrimPrefix(r, "~")
			if err := p.ridName(r); err != nil {
				return err
			}
			if len(s.simulcast) == maxRIDs {
				return p.errorf("more than %d simulcast streams", maxRIDs)
			}
			s.simulcast = append(s.simulcast, r)
		}
	}
	return nil
}

func (p *parser) ssrc(s *section, value string) error {
	id, _, _ := strings.Cut(value, " ")
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return p.errorf("ssrc %.20q", id)
	}
	for _, have := range s.SSRCs {
		if have == uint32(n) {
			return nil // one line per attribute of the source
		}
	}
	if len(s.SSRCs) == maxSSRCs {
		return p.errorf("more than %d ssrcs", maxSSRCs)
	}
	s.SSRCs = append(s.SSRCs, uint32(n))
	return nil
}

// ssrcGroup reads FID groups (RFC 5576 §4.2): the media stream, then its retransmissions. Other groups are skipped.
func (p *parser) ssrcGroup(s *section, value string) error {
	f := strings.Fields(value)
	if len(f) == 0 || f[0] != "FID" {
		return nil
	}
	if len(f) != 3 {
		return p.errorf("an FID group of %d, want 2", len(f)-1)
	}
	media, err := strconv.ParseUint(f[1], 10, 32)
	repair, err2 := strconv.ParseUint(f[2], 10, 32)
	if errors.Join(err, err2) != nil || media == repair {
		return p.errorf("FID group %.20q %.20q", f[1], f[2])
	}
	if len(s.repaired) == maxSSRCs {
		return p.errorf("more than %d FID groups", maxSSRCs)
	}
	if s.repaired == nil {
		s.repaired, s.repairing = map[uint32]uint32{}, map[uint32]bool{}
	}
	s.repaired[uint32(media)], s.repairing[uint32(repair)] = uint32(repair), true
	return nil
}
