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
	Tables  []Table
	Charts  []Chart
	Notes   []string
}

// Listed are all figures, if there are more than are shown large already.
func (p Page) Listed() []Figure {
	for _, f := range p.Figures {
		if !f.Main {
			return p.Figures
		}
	}
	return nil
}

// Table stands above the charts. The first cell of a row is its name; the others are figures.
type Table struct {
	Title string
	Head  []string
	Rows  [][]Cell
}

// Cell is one of a table.
type Cell struct {
	Text  string
	Small string // said below it
	Mark  Mark
}

// Mark says whether what a cell tells is as it should be.
type Mark uint8

// Marks of a cell.
const (
	Plain Mark = iota
	Good
	Bad
)

// Class is what the page calls the mark.
func (m Mark) Class() string { return [...]string{"", "good", "bad"}[m] }

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
	// LogX spaces the horizontal axis by powers of ten, for values that lie far apart; points at 0 or below are left out.
	LogX bool
	// Bars draws each series as bars that stand on the axis, instead of a line.
	Bars bool
	// Labels names groups of bars: a point's X is the number of its group, and the series stand side by side in it.
	Labels []string
	// Limit draws a broken line at a height that values should stay below, with a name; 0: none.
	Limit     float64
	LimitName string
}

// Series is one line or row of bars of a chart.
type Series struct {
	Name   string
	Points []Point
}

// Point is a point of a chart. From Low to High is how far the values of repeated measures lie apart, where they are not both 0.
type Point struct{ X, Y, Low, High float64 }

// Write writes the page.
func Write(w io.Writer, p Page) error {
	if err := page.Execute(w, p); err != nil {
		return fmt.Errorf("bench: write the report: %w", err)
	}
	return nil
}

// Sizes of a chart, in units of its own coordinates.
const (
	narrow, wide, height     = 560, 1040, 280
	left, right, top, bottom = 56, 12, 12, 46
)

// colours is how many classes s0, s1… the page has for series: told apart by people who do not see red or green (after Okabe and
// Ito), lighter ones where the page is dark.
const colours = 6

// Lines lie over one another: the first are drawn wider, so that one that takes the same way as another still shows.
const (
	lineWidth, lineStep = 2, 1.5
	widerLines          = 3 // at most so many steps
)

// SVG draws the chart. Names come from the bench, and are escaped all the same.
func (c Chart) SVG() template.HTML {
	xr, yr := c.ranges()
	d := drawing{c: c, x: xr, y: yr, width: narrow}
	if len(c.Labels) > 0 {
		d.width = wide
	}
	fmt.Fprintf(&d, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, d.width, height, template.HTMLEscapeString(c.Title))
	d.axes()
	for i, s := range c.Series {
		switch {
		case len(c.Labels) > 0:
			d.group(i, s)
		case c.Bars:
			d.bars(i, s)
		default:
			d.line(i, s)
		}
	}
	if c.Limit > 0 {
		fmt.Fprintf(&d, `<path class="limit" d="M%d %.1fH%d"/><text class="limit" x="%d" y="%.1f" text-anchor="end">%s</text>`,
			left, d.py(c.Limit), d.width-right, d.width-right, d.py(c.Limit)-5, template.HTMLEscapeString(c.LimitName))
	}
	d.WriteString(`</svg>`)
	return template.HTML(d.String())
}

// drawing is a chart on its way to SVG.
type drawing struct {
	strings.Builder
	c    Chart
	x, y bounds

	width int
}

func (d *drawing) px(x float64) float64 {
	return left + (d.c.along(x)-d.x.low)/d.x.span()*float64(d.width-left-right)
}

func (d *drawing) py(y float64) float64 {
	return height - bottom - (y-d.y.low)/d.y.span()*(height-top-bottom)
}

func (d *drawing) axes() {
	marks := d.y.marks()
	for _, y := range marks {
		fmt.Fprintf(d, `<path class="grid" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end" dy=".35em">%s</text>`,
			left, d.py(y), d.width-right, left-8, d.py(y), label(y, marks[len(marks)-1]))
	}
	if len(d.c.Labels) > 0 {
		for i, name := range d.c.Labels {
			fmt.Fprintf(d, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, d.px(float64(i)), height-bottom+20, template.HTMLEscapeString(name))
		}
	} else {
		marks := d.x.marks
		if d.c.LogX {
			marks = d.x.powers
		}
		for _, x := range marks() {
			fmt.Fprintf(d, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, d.px(x), height-bottom+20, label(x, x))
		}
	}
	fmt.Fprintf(d, `<text x="%d" y="%d" text-anchor="end">%s</text>`, d.width-right, height-4, template.HTMLEscapeString(d.c.X))
}

// line draws a series as one, with a shade below where it is alone.
func (d *drawing) line(i int, s Series) {
	var path strings.Builder
	var first, last float64
	for _, p := range s.Points {
		if d.c.LogX && p.X <= 0 {
			continue
		}
		last = d.px(p.X)
		if path.Len() == 0 {
			first = last
			path.WriteByte('M')
		} else {
			path.WriteByte('L')
		}
		fmt.Fprintf(&path, "%.1f %.1f", last, d.py(p.Y))
	}
	if len(d.c.Series) == 1 && last > first {
		fmt.Fprintf(d, `<path class="s%d shade" d="%sL%.1f %.1fL%.1f %.1fZ"/>`, i%colours, path.String(), last, d.py(0), first, d.py(0))
	}
	width := lineWidth + lineStep*float64(min(len(d.c.Series)-1-i, widerLines))
	fmt.Fprintf(d, `<path class="s%d line" stroke-width="%g" d="%s"/>`, i%colours, width, path.String())
}

// bars draws a row of bars, each as wide as the way to the next.
func (d *drawing) bars(i int, s Series) {
	for j, p := range s.Points {
		w := 8.0
		if j+1 < len(s.Points) {
			w = d.px(s.Points[j+1].X) - d.px(p.X)
		} else if j > 0 {
			w = d.px(p.X) - d.px(s.Points[j-1].X)
		}
		fmt.Fprintf(d, `<rect class="s%d bar" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`,
			i%colours, d.px(p.X), d.py(p.Y), max(1, w-1), max(0, d.py(0)-d.py(p.Y)))
	}
}

// group draws a series' bar in each group, with its value on top.
func (d *drawing) group(i int, s Series) {
	n := float64(len(d.c.Series))
	w := min(40, 0.8*(d.px(1)-d.px(0))/n)
	for _, p := range s.Points {
		x := d.px(p.X) + (float64(i)-n/2)*w
		fmt.Fprintf(d, `<rect class="s%d bar" rx="2" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`,
			i%colours, x+1, d.py(p.Y), w-2, max(0, d.py(0)-d.py(p.Y)))
		high := max(p.Y, p.High)
		if p.Low != 0 || p.High != 0 {
			fmt.Fprintf(d, `<path class="spread" d="M%.1f %.1fV%.1fm-3 0h6M%.1f %.1fm-3 0h6"/>`, x+w/2, d.py(p.Low), d.py(p.High), x+w/2, d.py(p.Low))
		}
		fmt.Fprintf(d, `<text class="value" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, x+w/2, d.py(high)-4, short(p.Y))
	}
}

// short writes a value with three digits at most.
func short(v float64) string {
	if v >= 100 {
		return label(math.Round(v), v)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// Legend names the series where there are several.
func (c Chart) Legend() template.HTML {
	if len(c.Series) < 2 {
		return ""
	}
	var b strings.Builder
	for i, s := range c.Series {
		fmt.Fprintf(&b, `<span><i class="s%d"></i>%s</span>`, i%colours, template.HTMLEscapeString(s.Name))
	}
	return template.HTML(b.String())
}

// along is where a value stands on the horizontal axis.
func (c Chart) along(x float64) float64 {
	if c.LogX {
		return math.Log10(x)
	}
	return x
}

// bounds is the range of an axis, as along tells it.
type bounds struct{ low, high float64 }

func (r bounds) span() float64 { return r.high - r.low }

// ranges covers all points; both axes begin at 0, but for one of powers of ten.
func (c Chart) ranges() (x, y bounds) {
	x = bounds{math.Inf(1), math.Inf(-1)}
	for _, s := range c.Series {
		for _, p := range s.Points {
			if c.LogX && p.X <= 0 {
				continue
			}
			x.low, x.high = min(x.low, c.along(p.X)), max(x.high, c.along(p.X))
			y.high = max(y.high, p.Y, p.High)
		}
	}
	y.high = max(y.high, c.Limit)
	if x.low > x.high {
		x = bounds{0, 1}
	}
	if !c.LogX {
		x.low = min(x.low, 0)
	}
	if n := len(c.Labels); n > 0 {
		x = bounds{-0.5, float64(n) - 0.5}
	}
	if x.span() == 0 {
		x.high = x.low + 1
	}
	if y.high == 0 {
		y.high = 1
	}
	y.high *= 1.05
	if len(c.Labels) > 0 {
		y.high *= 1.05 // room for the values
	}
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

// mostPowers is how many marks an axis of powers of ten has room for.
const mostPowers = 9

// powers returns round values of a range of powers of ten, evenly spread: 1, 2, 5, 10…, fewer where the range is wide.
func (r bounds) powers() []float64 {
	from, to := math.Pow(10, r.low), math.Pow(10, r.high)
	if r.span() < 1 {
		return bounds{from, to}.marks()
	}
	var out []float64
	for _, steps := range [][]float64{{1, 2, 5}, {1, 3}, {1}} {
		out = out[:0]
		for power := math.Floor(r.low); power <= r.high; power++ {
			for _, step := range steps {
				if v := step * math.Pow(10, power); v >= from*(1-1e-9) && v <= to*(1+1e-9) {
					out = append(out, v)
				}
			}
		}
		if len(out) <= mostPowers {
			break
		}
	}
	return out
}

// label writes a value of an axis shortly, in the unit that suits its highest.
func label(v, highest float64) string {
	if math.Abs(v) < 1e-12 {
		return "0"
	}
	for _, unit := range []struct {
		from, value float64
		name        string
	}{{1e9, 1e9, "G"}, {1e6, 1e6, "M"}, {1e4, 1e3, "k"}} {
		if math.Abs(highest) >= unit.from {
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
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5c6675; --line: #e1e5ea; --paper: #fff; --panel: #f7f8fa; --good: #00714f; --bad: #b3391a;
 --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #cc79a7; --c4: #e69f00; --c5: #56b4e9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf1; --soft: #9aa5b4; --line: #2c343f; --paper: #14181d; --panel: #1b2027; --good: #4cc79b; --bad: #ff8f6b;
 --c0: #4fa8e0; --c1: #ff8a4c; --c2: #2fc795; --c3: #e59cc8; --c4: #f2bb45; --c5: #b4def7; } }
.s0 { --s: var(--c0); } .s1 { --s: var(--c1); } .s2 { --s: var(--c2); } .s3 { --s: var(--c3); } .s4 { --s: var(--c4); } .s5 { --s: var(--c5); }
.line { stroke: var(--s); fill: none; stroke-linejoin: round; } .bar { fill: var(--s); } .shade { fill: var(--s); fill-opacity: .12; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 64rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; } h2 { font-size: 1.05rem; margin: 2.5rem 0 .5rem; }
p { color: var(--soft); margin: .4rem 0; max-width: 48rem; }
.main { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: .8rem; margin: 1.5rem 0; }
.main div { background: var(--panel); border-radius: .6rem; padding: .9rem 1.1rem; }
.main b { display: block; font-size: 1.6rem; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums; } .main span { color: var(--soft); font-size: .9rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 0 1.5rem; } .charts section { min-width: 0; } .charts .wide { grid-column: 1 / -1; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } td, th { border-top: 1px solid var(--line); padding: .4rem .6rem .4rem 0; vertical-align: top; text-align: left; font-weight: 400; }
th { border-top: 0; color: var(--soft); font-size: .85rem; vertical-align: bottom; } td + td, th + th { text-align: right; font-variant-numeric: tabular-nums; }
td + td:not(:last-child) { white-space: nowrap; } td small { display: block; font-weight: 400; color: var(--soft); font-size: .8rem; } .good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 13px; fill: var(--soft); } .grid { stroke: var(--line); fill: none; }
svg .value { font-size: 12px; fill: var(--ink); } .spread { stroke: var(--ink); fill: none; opacity: .6; } path.limit { stroke: var(--bad); stroke-dasharray: 5 4; fill: none; } svg text.limit { fill: var(--bad); }
.legend { min-height: 1.4rem; } .legend span { display: inline-block; margin-right: 1rem; color: var(--soft); font-size: .9rem; } .legend i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; background: var(--s); }
.main b, td + td, td + td small { overflow-wrap: anywhere; }
@media (max-width: 34rem) {
 .charts { grid-template-columns: 1fr; } body { margin-top: 1.2rem; } h1 { font-size: 1.45rem; } h2 { margin-top: 1.8rem; }
 .main { grid-template-columns: 1fr 1fr; gap: .6rem; } .main div { padding: .7rem .8rem; } .main b { font-size: 1.3rem; }
 svg text { font-size: 19px; } svg .value { font-size: 16px; } .wide { overflow-x: auto; } .wide svg { min-width: 44rem; } .wide svg text { font-size: 15px; }
}
</style>
<h1>{{.Title}}</h1>
<p>{{.Lead}}</p>
<div class="main">{{range .Figures}}{{if .Main}}<div><b>{{.Value}}</b><span>{{.Name}}</span></div>{{end}}{{end}}</div>
{{range .Tables}}<h2>{{.Title}}</h2><div class="scroll"><table><tr>{{range .Head}}<th>{{.}}</th>{{end}}</tr>
{{range .Rows}}<tr>{{range .}}<td class="{{.Mark.Class}}">{{.Text}}{{with .Small}}<small>{{.}}</small>{{end}}</td>{{end}}</tr>
{{end}}</table></div>
{{end}}<div class="charts">{{range .Charts}}<section{{if .Labels}} class="wide"{{end}}><h2>{{.Title}}</h2><div class="legend">{{with .Y}}<span>{{.}}</span>{{end}}{{.Legend}}</div>{{.SVG}}</section>
{{end}}</div>
{{with .Listed}}<h2>All figures</h2>
<table>{{range .}}<tr><td>{{.Name}}</td><td>{{.Value}}</td></tr>{{end}}</table>{{end}}
{{with .Notes}}<h2>How to read this</h2>{{range .}}<p>{{.}}</p>
{{end}}{{end}}</html>
`))
