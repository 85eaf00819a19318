package config

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	Line int    // 0: nowhere in particular
	Key  string // "" when it is not about a key
	What string // what to do about it included
}

// Invalid is the error of a file that was refused: all its problems, in order
// of line.
type Invalid struct {
	File     string
	Problems []Problem
}

// Error has one line for each problem, in the form that editors jump to.
func (e *Invalid) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		where := e.File
		if p.Line > 0 {
			where = fmt.Sprintf("%s:%d", e.File, p.Line)
		}
		if p.Key != "" {
			where += ": " + p.Key
		}
		lines[i] = where + ": " + p.What
	}
	return strings.Join(lines, "\n")
}

// Load reads and checks a document; name is the file it came from. The error
// of a document that is refused is an *Invalid.
func Load(name string, document []byte) (Config, error) {
	c := Default()
	refuse := func(problems ...Problem) (Config, error) {
		sort.SliceStable(problems, func(i, j int) bool { return problems[i].Line < problems[j].Line })
		return Config{}, &Invalid{File: name, Problems: problems}
	}

	err := toml.NewDecoder(bytes.NewReader(document)).DisallowUnknownFields().Decode(&c)
	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		var problems []Problem
		for i := range unknown.Errors {
			e := &unknown.Errors[i]
			line, _ := e.Position()
			key := strings.Join(e.Key(), ".")
			problems = append(problems, Problem{line, key, "unknown key" + suggestion(key)})
		}
		return refuse(problems...)
	case errors.As(err, &wrong):
		line, _ := wrong.Position()
		return refuse(Problem{line, strings.Join(wrong.Key(), "."), strings.TrimPrefix(wrong.Error(), "toml: ")})
	case err != nil:
		return refuse(Problem{What: err.Error()})
	}

	problems := c.validate()
	if len(problems) == 0 {
		return c, nil
	}
	lines := keyLines(document)
	for i := range problems {
		problems[i].Line = lines[problems[i].Key]
	}
	return refuse(problems...)
}

// keyLines returns the line of every key of a document that has been decoded
// before, so that it parses.
func keyLines(document []byte) map[string]int {
	lines := map[string]int{}
	var p unstable.Parser
	p.Reset(document)
	var table []string
	for p.NextExpression() {
		node := p.Expression()
		var path []string
		line := 0
		for it := node.Key(); it.Next(); {
			part := it.Node()
			if line == 0 {
				line = p.Shape(part.Raw).Start.Line
			}
			path = append(path, string(part.Data))
		}
		switch node.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = path
		case unstable.KeyValue:
			path = append(table[:len(table):len(table)], path...)
			inlineLines(&p, node.Value(), path, lines)
		}
		lines[strings.Join(path, ".")] = line
	}
	return lines
}

// inlineLines adds the keys of an inline table: server = { listen = ":1" }.
func inlineLines(p *unstable.Parser, value *unstable.Node, path []string, lines map[string]int) {
	if value.Kind != unstable.InlineTable {
		return
	}
	for it := value.Children(); it.Next(); {
		child := it.Node()
		below := path[:len(path):len(path)]
		line := 0
		for key := child.Key(); key.Next(); {
			below = append(below, string(key.Node().Data))
			line = p.Shape(key.Node().Raw).Start.Line
		}
		lines[strings.Join(below, ".")] = line
		inlineLines(p, child.Value(), below, lines)
	}
}

// suggestion names the key that was perhaps meant, if one is near.
func suggestion(key string) string {
	best, distance := "", len(key)/3+1
	consider := func(known string) {
		if d := editDistance(key, known); d < distance {
			best, distance = known, d
		}
	}
	_, last := splitLast(key)
	for s := range sections(Default()) {
		consider(s.name)
		for e := range s.entries() {
			consider(e.key)
			// The right key under the wrong section is a common slip too.
			if _, name := splitLast(e.key); name == last && distance > 1 {
				best, distance = e.key, 1
			}
		}
	}
	if best == "" {
		return "; `sotto config` prints the known ones"
	}
	return "; did you mean " + best + "?"
}

func splitLast(key string) (before, last string) {
	i := strings.LastIndexByte(key, '.')
	return key[:max(i, 0)], key[i+1:]
}

// editDistance counts the characters to insert, remove or replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
