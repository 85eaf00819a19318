package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"regexp"
)

// longest is the most lines a hand-written file may have: the tail rots
// first.
const longest = 900

var (
	// marks of work put off, and of linters told to look away. Written in
	// pieces so that this file does not find itself.
	marks = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b|//(no` + `lint|lint:ig` + `nore|lint:file-ig` + `nore)`)
	// other ways to cite than `RFC 8656 §12.4`, the one that can be found.
	citation = regexp.MustCompile(`\bRFC(\d|-\d| +\d+[ ,]+([Ss]ection|[Ss]ec[t]?\.|§ ))`)
)

// Habits checks what the house style asks and no linter looks at: length of
// files, marks of work put off, the form of citations, and tests that sleep
// on a real clock.
func Habits(files []*File) []Finding {
	var out []Finding
	for _, f := range files {
		if ast.IsGenerated(f.AST) {
			continue
		}
		if n := bytes.Count(f.Text, []byte("\n")); n > longest {
			out = append(out, Finding{f.Path, 0, fmt.Sprintf("%d lines: split what passes %d", n, longest)})
		}
		for _, group := range f.AST.Comments {
			for _, c := range group.List {
				if m := marks.FindString(c.Text); m != "" {
					out = append(out, Finding{f.Path, f.line(c), "comment has " + m})
				}
				if m := citation.FindString(c.Text); m != "" {
					out = append(out, Finding{f.Path, f.line(c), fmt.Sprintf("citation %q: write it as RFC 8656 §12.4", m)})
				}
			}
		}
		out = append(out, sleeps(f)...)
	}
	return out
}

// sleeps finds time.Sleep in tests. In a synctest bubble the clock is not
// real, and sleeping is how time passes there.
func sleeps(f *File) []Finding {
	name := f.importName("time")
	if !f.Test || name == "" || f.importName("testing/synctest") != "" {
		return nil
	}
	var out []Finding
	ast.Inspect(f.AST, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != "Sleep" {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == name {
			out = append(out, Finding{f.Path, f.line(sel), "time.Sleep in a test: wait for the event, or use testing/synctest"})
		}
		return true
	})
	return out
}
