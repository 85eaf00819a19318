package store

import (
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
)

// Domain is what one part of the appliance keeps: its migrations, and every query it ever runs. The part declares it once, in
// variables of its package; the store creates the tables, and a test prepares each query on both engines.
type Domain struct {
	name       string
	migrations fs.FS
	queries    []Query
}

// Query is one statement of a domain, with ? for each argument. Only a Domain makes them, so that none escapes the test.
type Query struct{ text, numbered string }

var domainName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,30}$`)

// NewDomain returns a domain. The name stays for ever: the version of its tables is kept under it. The migrations are goose files
// at the root of the file system, the same for both engines. It panics on a name that is none, as regexp.MustCompile does.
func NewDomain(name string, migrations fs.FS) *Domain {
	if !domainName.MatchString(name) {
		panic(fmt.Sprintf("store: %q is no name for a domain", name))
	}
	return &Domain{name: name, migrations: migrations}
}

// Query adds a statement to the domain. Call it in variables of the package, not later.
func (d *Domain) Query(text string) Query {
	q := Query{text: text, numbered: number(text)}
	d.queries = append(d.queries, q)
	return q
}

// Name returns the name of the domain.
func (d *Domain) Name() string { return d.name }

// versions is the table in which goose counts the domain's migrations.
func (d *Domain) versions() string { return versionsPrefix + d.name }

const versionsPrefix = "schema_"

// number writes $1, $2, … for the question marks of a statement, which is how PostgreSQL wants them. Those in strings, quoted
// names and comments stay.
func number(text string) string {
	var b strings.Builder
	n := 0
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '?':
			n++
			b.WriteString("$" + strconv.Itoa(n))
			i++
		case c == '\'' || c == '"':
			end := skip(text, i+1, string(c))
			b.WriteString(text[i:end])
			i = end
		case strings.HasPrefix(text[i:], "--"):
			end := skip(text, i, "\n")
			b.WriteString(text[i:end])
			i = end
		case strings.HasPrefix(text[i:], "/*"):
			end := skip(text, i+2, "*/")
			b.WriteString(text[i:end])
			i = end
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String()
}

// skip returns where the text goes on behind the next end mark. A doubled quote in a string ends one and begins another, which
// comes to the same.
func skip(text string, from int, mark string) int {
	if i := strings.Index(text[from:], mark); i >= 0 {
		return from + i + len(mark)
	}
	return len(text)
}
