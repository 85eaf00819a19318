package archtest

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"io/fs"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// Row is one line of the features page.
type Row struct {
	ID    string
	Line  int
	Tests []Ref // empty: the row is open
}

// Ref names a test: a folder and a Go function in it, or a file of another
// language and the title of a test in that file.
type Ref struct {
	Path string
	Name string
}

var (
	rowLine   = regexp.MustCompile(`^\|\s*([A-Z]{1,2}[0-9]+)\s*\|`)
	rangeLine = regexp.MustCompile(`^Rows: (.+)\.$`)
	quoted    = regexp.MustCompile("`([^`]+)`")
	idRange   = regexp.MustCompile(`^([A-Z]{1,2})([0-9]+)–([0-9]+)$`)
)

// ParseFeatures reads the features page: a line that lists the row ids as
// ranges (`Rows: A1–13, TD1–9.`) and tables whose first column is the id and
// whose last column names the tests, each in back quotes as `path:name`, or
// is the word open.
func ParseFeatures(page []byte) (ids []string, rows []Row, err error) {
	for i, line := range strings.Split(string(page), "\n") {
		if m := rangeLine.FindStringSubmatch(line); m != nil {
			for _, part := range strings.Split(m[1], ", ") {
				more, err := expand(part)
				if err != nil {
					return nil, nil, fmt.Errorf("archtest: features line %d: %w", i+1, err)
				}
				ids = append(ids, more...)
			}
			continue
		}
		m := rowLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		cells := strings.Split(strings.TrimSuffix(strings.TrimSpace(line), "|"), "|")
		shown := strings.TrimSpace(cells[len(cells)-1])
		row := Row{ID: m[1], Line: i + 1}
		if shown != "open" {
			refs := quoted.FindAllStringSubmatch(shown, -1)
			if len(refs) == 0 {
				return nil, nil, fmt.Errorf("archtest: features line %d: row %s names no test and does not say open", i+1, row.ID)
			}
			for _, r := range refs {
				path, name, ok := strings.Cut(r[1], ":")
				if !ok {
					return nil, nil, fmt.Errorf("archtest: features line %d: %q is not path:name", i+1, r[1])
				}
				row.Tests = append(row.Tests, Ref{Path: path, Name: strings.TrimSpace(name)})
			}
		}
		rows = append(rows, row)
	}
	return ids, rows, nil
}

func expand(part string) ([]string, error) {
	m := idRange.FindStringSubmatch(part)
	if m == nil {
		return nil, fmt.Errorf("%q is not a range like A1–13", part)
	}
	from, err := strconv.Atoi(m[2])
	if err != nil {
		return nil, err
	}
	to, err := strconv.Atoi(m[3])
	if err != nil {
		return nil, err
	}
	var ids []string
	for n := from; n <= to; n++ {
		ids = append(ids, m[1]+strconv.Itoa(n))
	}
	return ids, nil
}

// MissionIDs returns the row ids of a page that keeps them in the first
// column of its tables.
func MissionIDs(page []byte) []string {
	var ids []string
	for _, line := range strings.Split(string(page), "\n") {
		if m := rowLine.FindStringSubmatch(line); m != nil {
			ids = append(ids, m[1])
		}
	}
	return ids
}

// Features checks the features page at the given path of the tree: the rows
// are those of its list, each once, and each named test exists, runs, and
// names the row.
func Features(root fs.FS, page string, files []*File) ([]Finding, error) {
	text, err := fs.ReadFile(root, page)
	if err != nil {
		return nil, fmt.Errorf("archtest: features: %w", err)
	}
	ids, rows, err := ParseFeatures(text)
	if err != nil {
		return nil, err
	}
	var out []Finding
	missing := map[string]bool{}
	for _, id := range ids {
		missing[id] = true
	}
	for _, row := range rows {
		if !missing[row.ID] {
			out = append(out, Finding{page, row.Line, "row " + row.ID + " is not in the list of rows, or stands twice"})
		}
		delete(missing, row.ID)
		for _, ref := range row.Tests {
			why, err := unproven(root, files, ref, row.ID)
			if err != nil {
				return nil, err
			}
			if why != "" {
				out = append(out, Finding{page, row.Line, fmt.Sprintf("row %s: %s:%s %s", row.ID, ref.Path, ref.Name, why)})
			}
		}
	}
	var left []string
	for id := range missing {
		left = append(left, id)
	}
	sort.Strings(left)
	for _, id := range left {
		out = append(out, Finding{page, 0, "row " + id + " is missing"})
	}
	return out, nil
}

// unproven says why a test does not show a row, "" when it does.
func unproven(root fs.FS, files []*File, ref Ref, id string) (string, error) {
	if strings.HasSuffix(ref.Path, ".go") || !strings.Contains(lastElem(ref.Path), ".") {
		return unprovenGo(files, ref, id), nil
	}
	text, err := fs.ReadFile(root, ref.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return "is in a file that does not exist", nil
	}
	if err != nil {
		return "", fmt.Errorf("archtest: features: %w", err)
	}
	return unprovenScript(text, ref.Name, id), nil
}

func lastElem(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }

func unprovenGo(files []*File, ref Ref, id string) string {
	for _, f := range files {
		if !f.Test || f.Dir != ref.Path && f.Path != ref.Path {
			continue
		}
		for _, decl := range f.AST.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || fn.Name.Name != ref.Name {
				continue
			}
			if skips(fn) {
				return "is skipped"
			}
			start := fn.Pos()
			if fn.Doc != nil {
				start = fn.Doc.Pos()
			}
			source := f.Text[f.fset.Position(start).Offset:f.fset.Position(fn.End()).Offset]
			if !names(source, id) {
				return "does not name the row"
			}
			return ""
		}
	}
	return "does not exist"
}

// skips reports a call of Skip, Skipf or SkipNow that always runs: one that
// is a statement of the function itself, not of a branch.
func skips(fn *ast.FuncDecl) bool {
	for _, stmt := range fn.Body.List {
		expr, ok := stmt.(*ast.ExprStmt)
		if !ok {
			continue
		}
		call, ok := expr.X.(*ast.CallExpr)
		if !ok {
			continue
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && strings.HasPrefix(sel.Sel.Name, "Skip") {
			return true
		}
	}
	return false
}

// A test of a script: test('title', …), it("title", …), and their .skip.
var scriptTest = regexp.MustCompile("(?m)^[ \t]*(?:await )?(?:test|it|scenario|check)(\\.skip|\\.todo)?\\([ \t\n]*[\"'`]([^\"'`\n]+)[\"'`]")

func unprovenScript(text []byte, title, id string) string {
	all := scriptTest.FindAllSubmatchIndex(text, -1)
	for i, m := range all {
		if string(text[m[4]:m[5]]) != title {
			continue
		}
		if m[2] >= 0 {
			return "is skipped"
		}
		end := len(text)
		if i+1 < len(all) {
			end = commentAbove(text, all[i+1][0])
		}
		if !names(text[commentAbove(text, m[0]):end], id) {
			return "does not name the row"
		}
		return ""
	}
	return "does not exist"
}

// commentAbove returns where the // lines directly above an offset begin.
func commentAbove(text []byte, at int) int {
	for at > 0 {
		before := bytes.LastIndexByte(text[:at-1], '\n') + 1
		if !bytes.HasPrefix(bytes.TrimSpace(text[before:at]), []byte("//")) {
			return at
		}
		at = before
	}
	return at
}

func names(source []byte, id string) bool {
	return regexp.MustCompile(`(^|[^A-Za-z0-9])` + id + `($|[^A-Za-z0-9])`).Match(source)
}
