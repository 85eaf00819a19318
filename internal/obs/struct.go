package obs

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
)

// Expose shows a struct of figures, read once for each scrape. The packet
// path counts in plain fields, and this is how they become metrics: int is a
// level of now, int64 and uint64 count from the start, and a struct within
// adds its name. Field PacketsIn of a struct exposed as sotto_sfu is
// sotto_sfu_packets_in_total. A slice of structs, which must be short, adds its
// name and a label: of Shards, sotto_sfu_shards_packets_in_total{shard="0"}.
// When reading fails the figures are absent.
func Expose[T any](m *Metrics, prefix, what string, read func() (T, error)) {
	c := &exposed{read: func() (reflect.Value, error) {
		v, err := read()
		return reflect.ValueOf(v), err
	}}
	c.add(reflect.TypeFor[T](), prefix, what, list{}, nil)
	m.registry.MustRegister(c)
}

// exposed is a collector whose metrics follow from a type.
type exposed struct {
	read   func() (reflect.Value, error)
	fields []field
}

type field struct {
	list  list
	index []int // from the element of a list, if it is in one
	desc  *prometheus.Desc
	kind  prometheus.ValueType
}

// list says where a slice of structs is, and what an element is called. The
// zero list is none.
type list struct {
	index []int
	label []string
}

func (c *exposed) add(t reflect.Type, prefix, what string, in list, index []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(index[:len(index):len(index)], i)
		name := prefix + "_" + snake(f.Name)
		kind := prometheus.CounterValue
		switch f.Type.Kind() {
		case reflect.Struct:
			c.add(f.Type, name, what, in, at)
			continue
		case reflect.Slice:
			label := strings.TrimSuffix(snake(f.Name), "s")
			c.add(f.Type.Elem(), name, what, list{index: at, label: []string{label}}, nil)
			continue
		case reflect.Int:
			kind = prometheus.GaugeValue
		case reflect.Int64, reflect.Uint64:
			name += "_total"
		default:
			panic(fmt.Sprintf("obs: field %s of %v is neither a count nor a level", f.Name, t))
		}
		help := fmt.Sprintf("%s: %s.", what, words(f.Name))
		c.fields = append(c.fields, field{list: in, index: at, desc: prometheus.NewDesc(name, help, in.label, nil), kind: kind})
	}
}

// Describe implements prometheus.Collector.
func (c *exposed) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c.fields {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *exposed) Collect(out chan<- prometheus.Metric) {
	v, err := c.read()
	if err != nil {
		return
	}
	for _, f := range c.fields {
		if f.list.label == nil {
			out <- prometheus.MustNewConstMetric(f.desc, f.kind, number(v.FieldByIndex(f.index)))
			continue
		}
		elements := v.FieldByIndex(f.list.index)
		for i := range elements.Len() {
			out <- prometheus.MustNewConstMetric(f.desc, f.kind, number(elements.Index(i).FieldByIndex(f.index)), strconv.Itoa(i))
		}
	}
}

func number(x reflect.Value) float64 {
	if x.CanUint() {
		return float64(x.Uint())
	}
	return float64(x.Int())
}

// words splits a Go name: NACKsIn is "nacks in", RTPMalformed "rtp malformed".
func words(name string) string {
	runes := []rune(name)
	var b strings.Builder
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) {
			afterLower := !unicode.IsUpper(runes[i-1])
			// The last capital of a run begins the next word, unless it is the
			// plural of an acronym.
			beforeWord := i+1 < len(runes) && unicode.IsLower(runes[i+1]) && !plural(runes[i+1:])
			if afterLower || beforeWord {
				b.WriteByte(' ')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// plural says whether the rest of a name is an s that ends a word.
func plural(rest []rune) bool {
	return rest[0] == 's' && (len(rest) == 1 || unicode.IsUpper(rest[1]))
}

func snake(name string) string { return strings.ReplaceAll(words(name), " ", "_") }
