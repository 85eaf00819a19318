package report

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func sample() Page {
	return Page{
		Title: "Bench <b>", Lead: "1 & 2",
		Figures: []Figure{{Name: "loss", Value: "0", Main: true}, {Name: "p<99>", Value: "3 ms"}},
		Charts: []Chart{
			{Title: "a", X: "s", Y: "packets/s", Series: []Series{
				{Name: "in<", Points: []Point{{X: 0, Y: 0}, {X: 1, Y: 100}}}, {Name: "out", Points: []Point{{X: 0, Y: 5}, {X: 1, Y: 5000}}},
			}},
			{Title: "b", Bars: true, Series: []Series{{Points: []Point{{X: 1, Y: 2}, {X: 2}, {X: 3, Y: 7}}}}},
			{Title: "empty"},
			{Title: "groups", Labels: []string{"x<y", "z"}, Limit: 9, LimitName: "limit<", Series: []Series{
				{Name: "a", Points: []Point{{X: 0, Y: 7, Low: 6, High: 8}, {X: 1, Y: 1}}}, {Name: "b", Points: []Point{{X: 1, Y: 2}}},
			}},
			{Title: "powers", LogX: true, Series: []Series{{Points: []Point{{X: 0, Y: 1}, {X: 0.02, Y: 2}, {X: 300, Y: 3}}}}},
			{Title: "no powers", LogX: true, Series: []Series{{Points: []Point{{X: 0, Y: 1}}}}},
			{Title: "one", Series: []Series{{Points: []Point{{X: 3}}}}},
		},
		Tables: []Table{{Title: "t&t", Head: []string{"what", "n"}, Rows: [][]Cell{{{Text: "row<"}, {Text: "7", Small: "6 to 8", Mark: Good}}}}},
		Notes:  []string{"note"},
	}
}

// The page fetches nothing, escapes what it is given, and its pictures are well-formed.
func TestWrite(t *testing.T) {
	var b strings.Builder
	if err := Write(&b, sample()); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if m := regexp.MustCompile(`(?i)https?:|//[a-z]|src=|href=|url\(|@import|<script`).FindString(text); m != "" {
		t.Errorf("the page refers to something: %q", m)
	}
	if strings.Contains(text, "<b>,") || strings.Contains(text, "Bench <b>") || strings.Contains(text, "in<<") || !strings.Contains(text, "p&lt;99&gt;") ||
		strings.Contains(text, "row<<") || strings.Contains(text, "x<y") || strings.Contains(text, "limit<<") || !strings.Contains(text, `class="good"`) {
		t.Error("names are not escaped")
	}
	if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") || strings.Contains(text, "ZgotmplZ") {
		t.Error("a figure could not be drawn")
	}
	pictures := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(text, -1)
	if len(pictures) != 7 {
		t.Errorf("%d pictures", len(pictures))
	}
	for _, p := range pictures {
		d := xml.NewDecoder(strings.NewReader(p))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v in %s", err, p)
			}
		}
	}
}

func TestMarks(t *testing.T) {
	for _, c := range []struct {
		r    bounds
		want []string
	}{
		{bounds{0, 1}, []string{"0", "0.2", "0.4", "0.6", "0.8", "1"}},
		{bounds{0, 10.5}, []string{"0", "2", "4", "6", "8", "10"}},
		{bounds{0, 30}, []string{"0", "5", "10", "15", "20", "25", "30"}},
		{bounds{0, 14000}, []string{"0", "2k", "4k", "6k", "8k", "10k", "12k", "14k"}},
		{bounds{0, 85000}, []string{"0", "10k", "20k", "30k", "40k", "50k", "60k", "70k", "80k"}},
		{bounds{2, 6e6}, []string{"1M", "2M", "3M", "4M", "5M", "6M"}},
	} {
		var got []string
		marks := c.r.marks()
		for _, v := range marks {
			got = append(got, label(v, marks[len(marks)-1]))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v: %s", c.r, diff)
		}
	}
}

func TestPowers(t *testing.T) {
	for _, c := range []struct {
		from, to float64
		want     []float64
	}{
		{0.2, 70, []float64{0.2, 0.5, 1, 2, 5, 10, 20, 50}},
		{20, 90, []float64{20, 30, 40, 50, 60, 70, 80, 90}},
		{0.01, 100, []float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100}},
		{1, 1e6, []float64{1, 10, 100, 1e3, 1e4, 1e5, 1e6}},
	} {
		got := bounds{math.Log10(c.from), math.Log10(c.to)}.powers()
		if diff := cmp.Diff(c.want, got, cmpopts.EquateApprox(1e-9, 0)); diff != "" {
			t.Errorf("%g to %g: %s", c.from, c.to, diff)
		}
	}
}
