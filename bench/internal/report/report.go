// Package report writes what a bench has found as one HTML page: figures in a table, charts as inline SVG. The page is whole in
// itself: no script, no font, no picture, nothing that a browser would fetch.
package report

import (
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
)

// Page is a report.
type Page struct {
	Title   string
	Lead    string // one sentence: what was done
	Figures []Figure
	Charts  []Chart
	Notes   []string
}

// Figure is one line of the table.
type Figure struct {
	Name, Value string
	Main        bool // shown large, above the table
}

// Chart shows series over one axis.
type Chart struct {
	Title  string
	X, Y   string // what the axes show, with the unit
	Series []Series
	// Bars draws each series as bars that stand on the axis, instead of a line.
	Bars bool
}

// Series is one line or row of bars of a chart.
type Series struct {
	Name   string
	Points []Point
}

// Point is a point of a chart.
type Point struct{ X, Y float64 }

// Write writes the page.
func Write(w io.Writer, p Page) error {
	if err := page.Execute(w, p); err != nil {
		return fmt.Errorf("bench: write the report: %w", err)
	}
	return nil
}

// Sizes of a chart, in units of its own coordinates.
const (
	width, height            = 720, 260
	left, right, top, bottom = 64, 16, 16, 40
)

// colours are told apart by people who do not see red or green (Okabe and Ito), on light and on dark.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7"}

// SVG draws the chart. Names come from the bench, and are escaped all the same.
func (c Chart) SVG() template.HTML {
	xr, yr := c.ranges()
	px := func(x float64) float64 { return left + (x-xr.low)/xr.span()*(width-left-right) }
	py := func(y float64) float64 { return height - bottom - (y-yr.low)/yr.span()*(height-top-bottom) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, width, height, template.HTMLEscapeString(c.Title))
	for _, y := range yr.marks() {
		fmt.Fprintf(&b, `<path class="grid" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end" dy=".35em">%s</text>`,
			left, py(y), width-right, left-8, py(y), label(y))
	}
	for _, x := range xr.marks() {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, px(x), height-bottom+18, label(x))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, width-right, height-4, template.HTMLEscapeString(c.X))
	fmt.Fprintf(&b, `<text x="4" y="%d">%s</text>`, top-4, template.HTMLEscapeString(c.Y))
	for i, s := range c.Series {
		colour := colours[i%len(colours)]
		if c.Bars {
			c.bars(&b, s, colour, px, py)
			continue
		}
		var d strings.Builder
		for j, p := range s.Points {
			fmt.Fprintf(&d, "%c%.1f %.1f", "ML"[min(j, 1)], px(p.X), py(p.Y))
		}
		fmt.Fprintf(&b, `<path fill="none" stroke="%s" stroke-width="2" d="%s"/>`, colour, d.String())
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}

// bars draws a row of bars, each as wide as the way to the next.
func (c Chart) bars(b *strings.Builder, s Series, colour string, px, py func(float64) float64) {
	for j, p := range s.Points {
		w := 8.0
		if j+1 < len(s.Points) {
			w = px(s.Points[j+1].X) - px(p.X)
		} else if j > 0 {
			w = px(p.X) - px(s.Points[j-1].X)
		}
		fmt.Fprintf(b, `<rect fill="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`,
			colour, px(p.X), py(p.Y), max(1, w-1), max(0, py(0)-py(p.Y)))
	}
}

// Legend names the series where there are several.
func (c Chart) Legend() template.HTML {
	if len(c.Series) < 2 {
		return ""
	}
	var b strings.Builder
	for i, s := range c.Series {
		fmt.Fprintf(&b, `<span><i style="background:%s"></i>%s</span>`, colours[i%len(colours)], template.HTMLEscapeString(s.Name))
	}
	return template.HTML(b.String())
}

// bounds is the range of an axis.
type bounds struct{ low, high float64 }

func (r bounds) span() float64 { return r.high - r.low }

// ranges covers all points; values begin at 0.
func (c Chart) ranges() (x, y bounds) {
	x = bounds{math.Inf(1), math.Inf(-1)}
	for _, s := range c.Series {
		for _, p := range s.Points {
			x.low, x.high = min(x.low, p.X), max(x.high, p.X)
			y.high = max(y.high, p.Y)
		}
	}
	if x.low > x.high {
		x = bounds{0, 1}
	}
	if x.span() == 0 {
		x.high = x.low + 1
	}
	if y.high == 0 {
		y.high = 1
	}
	y.high *= 1.05
	return x, y
}

// marks returns four to nine round values within the range.
func (r bounds) marks() []float64 {
	step := math.Pow(10, math.Floor(math.Log10(r.span())))
	switch n := r.span() / step; {
	case n < 2:
		step /= 5
	case n < 4.5:
		step /= 2
	}
	var out []float64
	for v := math.Ceil(r.low/step) * step; v <= r.high+step/1e6; v += step {
		out = append(out, v)
	}
	return out
}

// label writes a value of an axis shortly.
func label(v float64) string {
	if math.Abs(v) < 1e-12 {
		return "0"
	}
	for _, unit := range []struct {
		value float64
		name  string
	}{{1e9, "G"}, {1e6, "M"}, {1e4, "k"}} {
		if math.Abs(v) >= unit.value {
			if unit.name == "k" {
				return strconv.FormatFloat(v/1e3, 'g', 4, 64) + "k"
			}
			return strconv.FormatFloat(v/unit.value, 'g', 4, 64) + unit.name
		}
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

var page = template.Must(template.New("report").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{.Title}}</title>
<style>
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5c6675; --line: #d9dee5; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf1; --soft: #9aa5b4; --line: #323a46; --paper: #14181d; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; } p { color: var(--soft); }
.main { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1rem; margin: 1.5rem 0; }
.main div { border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; }
.main b { display: block; font-size: 1.5rem; font-weight: 600; } .main span { color: var(--soft); font-size: .9rem; }
table { border-collapse: collapse; width: 100%; } td { border-top: 1px solid var(--line); padding: .3rem 0; }
td + td { text-align: right; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--soft); } .grid { stroke: var(--line); fill: none; }
.legend span { margin-right: 1rem; color: var(--soft); font-size: .9rem; } .legend i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }
</style>
<h1>{{.Title}}</h1>
<p>{{.Lead}}</p>
<div class="main">{{range .Figures}}{{if .Main}}<div><b>{{.Value}}</b><span>{{.Name}}</span></div>{{end}}{{end}}</div>
{{range .Charts}}<h2>{{.Title}}</h2><div class="legend">{{.Legend}}</div>{{.SVG}}
{{end}}<h2>All figures</h2>
<table>{{range .Figures}}<tr><td>{{.Name}}</td><td>{{.Value}}</td></tr>{{end}}</table>
{{range .Notes}}<p>{{.}}</p>
{{end}}</html>
`))
