package sdp

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sotto-edge/sotto/sfu"
)

// Bounds of a fragment. A client that trickles sends a few candidates at a time.
const (
	MaxFragmentBytes = 16 << 10
	maxFragmentLines = 512
)

// Fragment is the body of type application/trickle-ice-sdpfrag (RFC 8840 §9): what ICE has to say and nothing else.
type Fragment struct {
	Ufrag, Pwd string // both or none
	Candidates int    // how many there are: this server reaches a client where its checks come from, and uses none
	End        bool   // there are no more
}

// ParseFragment reads a fragment. Credentials may stand before the m-lines or behind one; in a bundle they are the same everywhere.
func ParseFragment(text string) (Fragment, error) {
	if len(text) > MaxFragmentBytes {
		return Fragment{}, &Error{0, fmt.Sprintf("%d bytes, %d are allowed", len(text), MaxFragmentBytes)}
	}
	p := parser{offer: true}
	var f Fragment
	var t transport
	for raw := range strings.SplitSeq(text, "\n") {
		if p.line++; p.line > maxFragmentLines {
			return Fragment{}, p.errorf("more than %d lines", maxFragmentLines)
		}
		line := strings.TrimSuffix(raw, "\r")
		if line == "" {
			continue
		}
		if err := p.fragment(&f, &t, line); err != nil {
			return Fragment{}, err
		}
	}
	if (t.ufrag == "") != (t.pwd == "") {
		return Fragment{}, &Error{0, "no " + map[bool]string{true: "ice-ufrag", false: "ice-pwd"}[t.ufrag == ""]}
	}
	f.Ufrag, f.Pwd = strings.Clone(t.ufrag), strings.Clone(t.pwd)
	return f, nil
}

func (p *parser) fragment(f *Fragment, t *transport, line string) error {
	value, attribute := strings.CutPrefix(line, "a=")
	switch {
	case strings.ContainsAny(line, "\x00\r"):
		return p.errorf("a control character")
	case strings.HasPrefix(line, "m="):
		if n := len(strings.Fields(line)); n < 4 {
			return p.errorf("an m-line of %d fields, want kind, port, protocol and formats", n)
		}
		f.End = false // of the section before
		return nil
	case !attribute:
		return p.errorf("want an attribute or an m-line, have %.20q", line)
	}
	name, value, _ := strings.Cut(value, ":")
	switch name {
	case "candidate":
		if err := p.candidate(value); err != nil {
			return err
		}
		f.Candidates++
	case "end-of-candidates":
		f.End = true
	case "mid":
		return p.token(name, value)
	case "ice-ufrag", "ice-pwd":
		var one transport
		if err := p.transport(&one, name, value); err != nil {
			return err
		}
		return t.merge(one, p.line)
	}
	return nil // ice-options, group and what may come
}

// candidate checks the form of RFC 8839 §5.1.
func (p *parser) candidate(value string) error {
	f := strings.Fields(value)
	if len(f) < 8 || f[6] != "typ" {
		return p.errorf("candidate %.40q, want foundation, component, transport, priority, address, port and type", value)
	}
	for _, n := range []struct {
		what, text string
		bits       int
	}{{"component", f[1], 9}, {"priority", f[3], 32}, {"port", f[5], 16}} {
		if _, err := strconv.ParseUint(n.text, 10, n.bits); err != nil {
			return p.errorf("%s %.20q of a candidate", n.what, n.text)
		}
	}
	return nil
}

// WriteFragment returns the fragment that answers an ICE restart: the server's credentials and candidates, in the section that its
// bundle goes by.
func WriteFragment(tagged sfu.Section, ice sfu.ICEParams) string {
	var w writer
	w.line("m=", tagged.Kind.String(), " 9 UDP/TLS/RTP/SAVPF 0")
	w.line("a=mid:", tagged.MID)
	w.line("a=ice-ufrag:", ice.Ufrag)
	w.line("a=ice-pwd:", ice.Pwd)
	w.candidates(ice.Candidates)
	return w.String()
}
