package archtest

import (
	"fmt"
	"go/ast"
)

// packetPath is the closed list of packages through which every packet runs.
// Folders below them are not on the list unless they stand here themselves.
var packetPath = map[string]bool{
	"internal/udp": true, "internal/pktbuf": true, "internal/spsc": true, "internal/stun": true, "internal/rtp": true,
	"perc/srtp":     true,
	"sfu/transport": true, "sfu/forward": true, "sfu/history": true, "sfu/tap": true, "sfu/rtcp": true, "sfu/speaker": true, "sfu/bwe": true,
	"sfu/layer": true,
}

// offPath are imports that bring formatting, and with it boxing and
// allocation, to where packets run.
var offPath = []string{"log/slog", "log", "fmt"}

// offPathNames are the names of the standard library that a packet never
// meets: addresses are netip.AddrPort, and time is one reading a batch, which
// is handed in.
var offPathNames = []struct {
	pkg   string
	names map[string]string // name → what to do instead
}{
	{"net", map[string]string{"Addr": "use netip.AddrPort"}},
	{"time", map[string]string{
		"Now":   "take now from the caller",
		"Since": "take now from the caller",
		"Until": "take now from the caller",
	}},
}

// PacketPath checks the rules of the packet path. Tests may do as they like.
func PacketPath(files []*File) []Finding {
	var out []Finding
	for _, f := range files {
		if !packetPath[f.Dir] || f.Test {
			continue
		}
		for _, spec := range f.AST.Imports {
			for _, bad := range offPath {
				if imported(spec) == bad {
					out = append(out, Finding{f.Path, f.line(spec), "imports " + bad + " on the packet path"})
				}
			}
		}
		for _, set := range offPathNames {
			name := f.importName(set.pkg)
			if name == "." {
				out = append(out, Finding{f.Path, 0, "imports " + set.pkg + " by a dot on the packet path"})
			}
			if name == "" || name == "." {
				continue
			}
			ast.Inspect(f.AST, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				x, ok := sel.X.(*ast.Ident)
				if !ok || x.Name != name {
					return true
				}
				if instead, bad := set.names[sel.Sel.Name]; bad {
					out = append(out, Finding{
						f.Path, f.line(sel),
						fmt.Sprintf("%s.%s on the packet path: %s", set.pkg, sel.Sel.Name, instead),
					})
				}
				return true
			})
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				out = append(out, Finding{f.Path, f.line(g), "go statement on the packet path"})
			}
			return true
		})
	}
	return out
}
