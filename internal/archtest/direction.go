package archtest

import (
	"fmt"
	"strings"
)

// domains are the folders at the top that may hold Go packages. A new one is
// a decision, not an accident.
var domains = map[string]bool{
	"cmd": true, "bench": true, "client": true, "web": true, "internal": true,
	"sfu": true, "turn": true, "perc": true, "signaling": true, "kms": true,
	"messaging": true, "control": true, "bpf": true,
}

// edges are the only ways from one domain into another. A third needs a note
// in docs/decisions. Both sides are a folder and what is below it; an exact
// target is marked with a trailing "$".
var edges = []struct{ from, to string }{
	{"sfu/transport", "perc"}, // the leg seals and opens with perc/srtp
	{"signaling", "sfu$"},     // the use-cases join a conference
	{"turn/relay", "bpf"},     // an engine is a policy over the kernel's programs (docs/decisions, relay in the kernel)
}

// doors are the parts that stand above their root: through them the world
// comes to the use-cases in it (docs/decisions, front doors). Every other
// part lies below its root and does not know it.
var doors = map[string]bool{"signaling/ws": true, "signaling/whip": true}

// browserStack is for clients and tests: the appliance runs no PeerConnection
// of its own, and an import is how one would come back.
const browserStack = "github.com/pion/webrtc/"

// Direction checks the import table.
func Direction(files []*File) []Finding {
	var out []Finding
	for _, f := range files {
		if top := first(f.Dir); !domains[top] {
			out = append(out, Finding{f.Path, 0, fmt.Sprintf("%q is no domain of the import table", top)})
			continue
		}
		for _, spec := range f.AST.Imports {
			if why := refused(f, imported(spec)); why != "" {
				out = append(out, Finding{f.Path, f.line(spec), why})
			}
		}
	}
	return out
}

// refused says why the file may not import the package, "" when it may.
func refused(f *File, pkg string) string {
	from := first(f.Dir)
	if strings.HasPrefix(pkg, browserStack) && from != "client" && from != "bench" && !f.Test {
		return "imports " + pkg + ": only client, bench and tests may"
	}
	target, ours := strings.CutPrefix(pkg, Module+"/")
	if !ours {
		return ""
	}
	to := first(target)
	switch {
	case to == "internal":
		return ""
	case from == to:
		if target == to && f.Dir != to && !doors[f.Dir] {
			return fmt.Sprintf("part %s imports its root %s", f.Dir, to)
		}
		return ""
	case from == "internal":
		return fmt.Sprintf("internal package %s imports %s: internal knows no domain", f.Dir, target)
	case to == "cmd":
		return fmt.Sprintf("%s imports %s: nothing imports cmd", f.Dir, target)
	case to == "web" || to == "bench":
		if from == "cmd" {
			return ""
		}
		return fmt.Sprintf("%s imports %s: only cmd may", f.Dir, target)
	case from == "cmd" || from == "bench" || from == "client":
		return ""
	case to == "client" && f.Test:
		return ""
	}
	for _, e := range edges {
		exact := strings.HasSuffix(e.to, "$")
		if within(f.Dir, e.from) && (target == strings.TrimSuffix(e.to, "$") || !exact && within(target, e.to)) {
			return ""
		}
	}
	return fmt.Sprintf("%s imports %s: no such edge between domains", f.Dir, target)
}

func first(dir string) string {
	top, _, _ := strings.Cut(dir, "/")
	return top
}

func within(dir, root string) bool {
	return dir == root || strings.HasPrefix(dir, root+"/")
}
