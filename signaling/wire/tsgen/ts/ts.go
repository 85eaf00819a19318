// Package ts turns the message types of package wire into TypeScript. The shape comes from the types themselves by reflection,
// the comments from their source, so that neither can drift from what the server does.
package ts

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"

	"github.com/sotto-edge/sotto/signaling/wire"
)

// Generate returns the TypeScript for the types of package wire, whose Go files are in the folder source.
func Generate(source string) ([]byte, error) {
	docs, err := readDocs(source)
	if err != nil {
		return nil, err
	}
	g := &generator{docs: docs, seen: map[reflect.Type]bool{}}
	g.constants()
	g.messages()
	return g.out.Bytes(), nil
}

// docs are the comments of package wire: of types by "Type", of fields by "Type.Field", of constants by "Name".
type docs map[string]string

func readDocs(source string) (docs, error) {
	names, err := filepath.Glob(filepath.Join(source, "*.go"))
	if err != nil {
		return nil, fmt.Errorf("ts: %w", err)
	}
	sort.Strings(names)
	d := docs{}
	fset := token.NewFileSet()
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("ts: %w", err)
		}
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("ts: %w", err)
		}
		ast.Inspect(file, d.add)
	}
	return d, nil
}

func (d docs) add(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GenDecl:
		for _, spec := range n.Specs {
			if t, ok := spec.(*ast.TypeSpec); ok {
				d[t.Name.Name] = n.Doc.Text()
				if st, ok := t.Type.(*ast.StructType); ok {
					for _, f := range st.Fields.List {
						for _, name := range f.Names {
							d[t.Name.Name+"."+name.Name] = f.Doc.Text()
						}
					}
				}
			}
			if v, ok := spec.(*ast.ValueSpec); ok {
				for _, name := range v.Names {
					d[name.Name] = v.Comment.Text()
				}
			}
		}
	}
	return true
}

type generator struct {
	out  bytes.Buffer
	docs docs
	seen map[reflect.Type]bool
	todo []reflect.Type // types that a written one refers to
}

func (g *generator) constants() {
	fmt.Fprintf(&g.out, `// Code generated from the Go types in signaling/wire by "go generate ./signaling/wire". DO NOT EDIT.

/** Protocol version that join and resume must name. */
export const protocolVersion = %d;
/** WebSocket subprotocol. */
export const subprotocol = %q;

/** Limits that are the same on every server; the others come with join.ok. */
export const limits = {
`, wire.Version, wire.Subprotocol)
	for _, c := range []struct {
		name  string
		value int
	}{
		{"frameBytes", wire.MaxFrameBytes},
		{"chatBytes", wire.MaxChatBytes},
		{"nameChars", wire.MaxNameChars},
		{"publications", wire.MaxPublications},
		{"tracksPerRequest", wire.MaxTracks},
		{"viewPixels", wire.MaxPixels},
	} {
		fmt.Fprintf(&g.out, "  %s: %d,\n", c.name, c.value)
	}
	g.out.WriteString("} as const;\n\n/** Codes of the WebSocket close frame. */\nexport const closeCodes = {\n")
	for _, c := range []struct {
		name, source string
		value        int
	}{
		{"normal", "CloseNormal", wire.CloseNormal},
		{"goingAway", "CloseGoingAway", wire.CloseGoingAway},
		{"violation", "CloseViolation", wire.CloseViolation},
		{"tooBig", "CloseTooBig", wire.CloseTooBig},
		{"takenOver", "CloseTakenOver", wire.CloseTakenOver},
		{"slow", "CloseSlow", wire.CloseSlow},
		{"removed", "CloseRemoved", wire.CloseRemoved},
		{"expired", "CloseExpired", wire.CloseExpired},
	} {
		g.comment("  ", g.docs[c.source])
		fmt.Fprintf(&g.out, "  %s: %d,\n", c.name, c.value)
	}
	g.out.WriteString("} as const;\n\n")
}

func (g *generator) messages() {
	g.out.WriteString("// Requests, sent with an id by the client.\n\n")
	var requests []string
	for _, r := range wire.Requests() {
		requests = append(requests, g.message(r, r.Kind(), "Request"))
	}
	g.out.WriteString("// Replies, sent by the server with the id of their request in re.\n\n")
	var replies []string
	for _, r := range wire.Replies() {
		replies = append(replies, g.message(r, r.Kind(), ""))
	}
	g.out.WriteString("// Events, sent by the server with a seq that grows by one.\n\n")
	var events []string
	for _, e := range wire.Events() {
		events = append(events, g.message(e, e.Kind(), "Event"))
	}
	g.out.WriteString("// Bodies of the HTTP calls.\n\n")
	for _, v := range []any{wire.MeetingRequest{}, wire.Meeting{}, wire.TokenRequest{}, wire.TokenReply{}, wire.WatchRequest{}, wire.WatchReply{}, wire.HTTPError{}} {
		g.refer(reflect.TypeOf(v))
		g.rest()
	}
	g.out.WriteString("// The frames as a whole.\n\n")
	g.union("ClientRequest", "Every request.", requests)
	g.union("ServerReply", "Every reply.", replies)
	g.union("ServerEvent", "Every event.", events)
	g.out.WriteString(`/** What the client sends: a request with an id that it has not used before in this session. */
export type ClientFrame = ClientRequest & { id: number };
/** What the server sends. Replies have re, events have seq. */
export type ServerFrame = (ServerReply & { re: number }) | (ServerEvent & { seq: number });

/** Which reply a request gets when it is not refused. */
export interface ReplyTo {
`)
	for _, r := range wire.Requests() {
		fmt.Fprintf(&g.out, "  %q: %sOK;\n", r.Kind(), reflect.TypeOf(r).Elem().Name())
	}
	g.out.WriteString("}\n")
}

func (g *generator) union(name, doc string, parts []string) {
	g.comment("", doc)
	fmt.Fprintf(&g.out, "export type %s =\n  | %s;\n\n", name, strings.Join(parts, "\n  | "))
}

// message writes one message and whatever it refers to, and returns its TypeScript name.
func (g *generator) message(v any, kind, suffix string) string {
	t := reflect.TypeOf(v).Elem()
	name := t.Name() + suffix
	g.structure(t, name, kind)
	g.rest()
	return name
}

func (g *generator) rest() {
	for len(g.todo) > 0 {
		t := g.todo[0]
		g.todo = g.todo[1:]
		if t.Kind() == reflect.Struct {
			g.structure(t, typeScriptName(t), "")
			continue
		}
		values := reflect.Zero(t).Interface().(interface{ Values() []string }).Values()
		for i, v := range values {
			values[i] = fmt.Sprintf("%q", v)
		}
		g.union(typeScriptName(t), g.docs[t.Name()], values)
	}
}

func (g *generator) structure(t reflect.Type, name, kind string) {
	g.comment("", strings.Replace(g.docs[t.Name()], t.Name()+" ", name+" ", 1))
	fmt.Fprintf(&g.out, "export interface %s {\n", name)
	if kind != "" {
		fmt.Fprintf(&g.out, "  type: %q;\n", kind)
	}
	for f := range t.Fields() {
		doc := strings.TrimSpace(g.docs[t.Name()+"."+f.Name])
		if limit := f.Tag.Get("limit"); limit != "" {
			doc = strings.TrimSpace(doc + " At most " + limit + ".")
		}
		g.comment("  ", doc)
		json, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		mark := ""
		if options == "omitempty" {
			mark = "?"
		}
		fmt.Fprintf(&g.out, "  %s%s: %s;\n", json, mark, g.typeName(f.Type))
	}
	g.out.WriteString("}\n\n")
}

func (g *generator) typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return g.typeName(t.Elem()) + "[]"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "number"
	case reflect.Struct:
		g.refer(t)
		return typeScriptName(t)
	default:
		if t.Name() == "string" {
			return "string"
		}
		g.refer(t)
		return typeScriptName(t)
	}
}

// typeScriptName keeps clear of the names that every page has.
func typeScriptName(t reflect.Type) string {
	if t == reflect.TypeFor[wire.Error]() {
		return "WireError"
	}
	return t.Name()
}

func (g *generator) refer(t reflect.Type) {
	if !g.seen[t] {
		g.seen[t] = true
		g.todo = append(g.todo, t)
	}
}

func (g *generator) comment(indent, text string) {
	text = strings.Join(strings.Fields(text), " ")
	if text == "" {
		return
	}
	const width = 120
	if len(indent)+len(text)+7 <= width {
		fmt.Fprintf(&g.out, "%s/** %s */\n", indent, text)
		return
	}
	fmt.Fprintf(&g.out, "%s/**\n", indent)
	line := indent + " *"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > width {
			g.out.WriteString(line + "\n")
			line = indent + " *"
		}
		line += " " + word
	}
	fmt.Fprintf(&g.out, "%s\n%s */\n", line, indent)
}
