package sdp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sotto-edge/sotto/sfu"
)

// finish checks what can be said only with the whole text at hand, and assembles the answer.
func (p *parser) finish() (sfu.Answer, error) {
	if len(p.sections) == 0 {
		return sfu.Answer{}, &Error{0, "no m-line"}
	}
	var a sfu.Answer
	used, err := p.bundle((*section).finish)
	if err != nil {
		return sfu.Answer{}, err
	}
	for _, s := range p.sections {
		if s.Rejected {
			a.Sections = append(a.Sections, sfu.AnswerSection{MID: s.MID, Rejected: true, Data: s.Data})
		} else {
			a.Sections = append(a.Sections, s.AnswerSection)
		}
	}
	a.ICE, a.Fingerprint = used.params()
	a.SetupActive = used.setup == "active"
	return a, nil
}

// bundle finishes each section that is in use, and returns the transport that they share.
func (p *parser) bundle(finish func(*section) error) (transport, error) {
	seen := map[string]bool{}
	grouped := map[string]bool{}
	for _, mid := range p.group {
		grouped[mid] = true
	}
	used, any := transport{}, false
	for _, s := range p.sections {
		if s.MID == "" {
			return used, &Error{s.line, "a section without a mid"}
		}
		if seen[s.MID] {
			return used, &Error{s.line, fmt.Sprintf("mid %.20q twice", s.MID)}
		}
		seen[s.MID] = true
		if s.Rejected {
			continue
		}
		any = true
		if !grouped[s.MID] {
			return used, &Error{s.line, fmt.Sprintf("section %.20q is not in the BUNDLE group", s.MID)}
		}
		if err := finish(s); err != nil {
			return used, err
		}
		if err := used.merge(s.over(p.session), s.line); err != nil {
			return used, err
		}
	}
	if used == (transport{}) {
		used = p.session // every section is rejected
	}
	if any && used.missing() != "" {
		return used, &Error{0, "no " + used.missing()}
	}
	return used, nil
}

// params are cloned, because what is kept of a description would keep all of its text: for as long as the participant stays.
func (t *transport) params() (sfu.ICEParams, sfu.Fingerprint) {
	return sfu.ICEParams{Ufrag: strings.Clone(t.ufrag), Pwd: strings.Clone(t.pwd)},
		sfu.Fingerprint{Algorithm: strings.Clone(t.fingerprint.Algorithm), Value: strings.Clone(t.fingerprint.Value)}
}

// over returns the section's transport attributes with those of the session where it has none.
func (s *section) over(session transport) transport {
	t := s.transport
	if t.ufrag == "" {
		t.ufrag = session.ufrag
	}
	if t.pwd == "" {
		t.pwd = session.pwd
	}
	if t.setup == "" {
		t.setup = session.setup
	}
	if t.fingerprint.Value == "" {
		t.fingerprint = session.fingerprint
	}
	return t
}

// missing names an attribute that a transport needs and this one lacks.
func (t *transport) missing() string {
	switch {
	case t.ufrag == "":
		return "ice-ufrag"
	case t.pwd == "":
		return "ice-pwd"
	case t.setup == "":
		return "setup"
	case t.fingerprint.Value == "":
		return "fingerprint of a known hash"
	}
	return ""
}

// merge takes the attributes of the next section. Bundled sections have one transport, so one that names another is an answer
// that was not understood.
func (t *transport) merge(next transport, line int) error {
	for _, f := range []struct {
		name string
		have *string
		next string
	}{
		{"ice-ufrag", &t.ufrag, next.ufrag},
		{"ice-pwd", &t.pwd, next.pwd},
		{"setup", &t.setup, next.setup},
		{"fingerprint", &t.fingerprint.Algorithm, next.fingerprint.Algorithm},
		{"fingerprint", &t.fingerprint.Value, next.fingerprint.Value},
	} {
		switch {
		case *f.have == "":
			*f.have = f.next
		case f.next != "" && *f.have != f.next:
			return &Error{line, "another " + f.name + " than the sections before, although they are bundled"}
		}
	}
	return nil
}

// defaultMessage is what a client takes that does not say (RFC 8841 §6.1).
const defaultMessage = 64 << 10

func (s *section) finish() error {
	if s.Data {
		if !s.sized {
			s.Largest = defaultMessage
		}
		return nil
	}
	if !s.rtcpMux {
		return &Error{s.line, fmt.Sprintf("section %.20q without rtcp-mux", s.MID)}
	}
	if err := s.way(); err != nil {
		return err
	}
	if err := s.layers(); err != nil {
		return err
	}
	if err := s.codecs(); err != nil {
		return err
	}
	if len(s.Codecs) == 0 {
		return &Error{s.line, fmt.Sprintf("section %.20q has no format with an rtpmap", s.MID)}
	}
	s.sources()
	return nil
}

// way reads the direction of a section of an answer.
func (s *section) way() error {
	switch s.direction {
	case "sendonly":
		s.Direction = sfu.SendOnly
	case "recvonly":
		s.Direction = sfu.RecvOnly
	case "inactive":
		s.Direction = sfu.Inactive
	default: // sendrecv, or none, which means the same (RFC 8866 §6.7)
		return &Error{s.line, fmt.Sprintf("section %.20q goes both ways, but none was offered so", s.MID)}
	}
	return nil
}

// layers are the rids that a section sends.
func (s *section) layers() error {
	if s.simulcast != nil {
		for _, r := range s.simulcast {
			if !slices.Contains(s.RIDs, r) {
				return &Error{s.line, fmt.Sprintf("simulcast names %.20q, which no rid line does", r)}
			}
		}
		s.RIDs = s.simulcast
	}
	return nil
}

// codecs puts the formats of the m-line together, retransmission formats (RFC 4588 §8.1) with the codec they are for.
func (s *section) codecs() error {
	rtx := map[string]uint8{}
	for _, pt := range s.formats {
		c, ok := s.maps[pt]
		if !ok || !strings.EqualFold(c.Name, "rtx") {
			continue
		}
		for parameter := range strings.SplitSeq(s.fmtp[pt], ";") {
			if of, ok := strings.CutPrefix(strings.TrimSpace(parameter), "apt="); ok {
				rtx[of] = c.PayloadType
			}
		}
	}
	seen := map[string]bool{}
	for _, pt := range s.formats {
		if seen[pt] {
			return &Error{s.line, fmt.Sprintf("format %.20q twice", pt)}
		}
		seen[pt] = true
		c, ok := s.maps[pt]
		if !ok || strings.EqualFold(c.Name, "rtx") {
			continue // static types without a map were not offered
		}
		if pt != strconv.Itoa(int(c.PayloadType)) {
			return &Error{s.line, fmt.Sprintf("payload type %.20q", pt)} // such as "0111"
		}
		c.FMTP, c.Feedback, c.RTX = s.fmtp[pt], slices.Concat(s.feedback[pt], s.feedback["*"]), rtx[pt]
		s.Codecs = append(s.Codecs, c)
	}
	return nil
}

// sources leaves retransmission streams out of the SSRCs, and names that of the first.
func (s *section) sources() {
	s.SSRCs = slices.DeleteFunc(s.SSRCs, func(v uint32) bool { return s.repairing[v] })
	if len(s.SSRCs) > 0 {
		s.RTXSSRC = s.repaired[s.SSRCs[0]]
	}
}
