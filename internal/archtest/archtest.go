// Package archtest keeps the shape of the tree. It reads the sources itself
// (a test that shells out to `go list` would be answered from the test cache)
// and reports what breaks the direction table, the rules of the packet path,
// the habits of the house, and the promises of docs/features.md.
//
// It owns those rules and nothing else: it never changes a file, it knows
// nothing about types, and what the linters already say it does not repeat.
package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"sort"
	"strconv"
	"strings"
)

// Module is the path of this module, the prefix of imports within it.
const Module = "github.com/sotto-edge/sotto"

// Finding is one broken rule.
type Finding struct {
	File string // slash-separated, from the root of the tree
	Line int    // 0: the whole file
	What string
}

// String has the form that editors jump to.
func (f Finding) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.What
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.What)
}

// File is one parsed Go file.
type File struct {
	Path string // slash-separated, from the root of the tree
	Dir  string
	Test bool // ends in _test.go
	AST  *ast.File
	Text []byte
	fset *token.FileSet
}

func (f *File) line(n ast.Node) int { return f.fset.Position(n.Pos()).Line }

// importName returns the name under which the file knows an imported package,
// "" when it does not import it and "." when it does so by a dot.
func (f *File) importName(pkg string) string {
	for _, spec := range f.AST.Imports {
		if imported(spec) != pkg {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(pkg)
	}
	return ""
}

func imported(spec *ast.ImportSpec) string {
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return spec.Path.Value // the parser has accepted it, so this does not happen
	}
	return p
}

// skipped are the folders that hold no sources of ours.
var skipped = map[string]bool{
	"node_modules": true, "testdata": true, "dist": true, "out": true,
}

// Load parses every Go file below the root, whatever its build constraints.
// Files come back in order of path.
func Load(root fs.FS) ([]*File, error) {
	var files []*File
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if entry.IsDir() {
			if name != "." && (skipped[base] || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, &File{
			Path: name, Dir: path.Dir(name), Test: strings.HasSuffix(base, "_test.go"),
			AST: tree, Text: text, fset: fset,
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("archtest: load: %w", err)
	}
	sort.Slice(files, func(i, j int) bool { return files[i].Path < files[j].Path })
	return files, nil
}
