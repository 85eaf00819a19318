package sdp

import (
	"fmt"
	"strings"

	"github.com/sotto-edge/sotto/sfu"
)

// ParseOffer reads the offer of a client, by the rules of ParseAnswer. The client must be ready to begin the DTLS handshake.
func ParseOffer(text string) (sfu.ClientOffer, error) {
	p := parser{offer: true}
	if err := p.read(text); err != nil {
		return sfu.ClientOffer{}, err
	}
	if len(p.sections) == 0 {
		return sfu.ClientOffer{}, &Error{0, "no m-line"}
	}
	for _, s := range p.sections {
		if s.bundleOnly { // its port is 0 only for those who do not know BUNDLE (RFC 9143 §6)
			s.Rejected = false
		}
	}
	used, err := p.bundle((*section).finishOffered)
	if err != nil {
		return sfu.ClientOffer{}, err
	}
	if used.setup == "passive" {
		return sfu.ClientOffer{}, &Error{0, "setup:passive: this server does not begin the DTLS handshake; offer actpass or active"}
	}
	var o sfu.ClientOffer
	o.ICE, o.Fingerprint = used.params()
	for _, s := range p.sections {
		s.detach()
		cs := sfu.ClientSection{AnswerSection: s.AnswerSection, Kind: sfu.Audio, Limits: s.limits}
		if s.kind == "video" {
			cs.Kind = sfu.Video
		}
		o.Sections = append(o.Sections, cs)
	}
	return o, nil
}

// detach copies what the media side keeps of a section, which would keep all of the offer's text.
func (s *section) detach() {
	s.MID = strings.Clone(s.MID)
	for i := range s.RIDs {
		s.RIDs[i] = strings.Clone(s.RIDs[i])
	}
	for i := range s.Codecs {
		s.Codecs[i].FMTP = strings.Clone(s.Codecs[i].FMTP)
	}
}

// finishOffered is finish for a section of an offer. A section without a known format is for the answer to reject.
func (s *section) finishOffered() error {
	if !s.rtcpMux {
		return &Error{s.line, fmt.Sprintf("section %.20q without rtcp-mux", s.MID)}
	}
	if s.direction == "" || s.direction == "sendrecv" { // RFC 8866 §6.7
		s.Direction = sfu.SendRecv
	} else if err := s.way(); err != nil {
		return err
	}
	if s.simulcast == nil {
		s.RIDs = nil // without it they are not layers of one picture
	}
	if err := s.layers(); err != nil {
		return err
	}
	if err := s.codecs(); err != nil {
		return err
	}
	s.sources()
	return nil
}
