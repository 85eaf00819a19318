package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/bench/internal/target"
	"github.com/sotto-edge/sotto/bench/sfu"
	"github.com/sotto-edge/sotto/bench/turn"
)

// bench is a stand-in for our binary: it writes down what it is asked for, and prints figures by the server's name.
const bench = `#!/bin/sh
if [ "$2" = turn ]; then
	echo "$*" >> %[1]q
	engine=tcx
	[ "$4" = batch ] && engine=batch
	echo '{"runs":5,"allocations":9,"servers":[{"server":"sotto","engine":"'$engine'"},{"server":"coturn"}],"loads":[{"family":"ipv4","direction":"up","payload_bytes":160,"order":"bursts",'\
		'"server_cpu_ratio":0.61,"whole_cpu_ratio":0.9,"servers":[{"server":"sotto","server_cpu_ns_per_packet":4000},{"server":"coturn","server_cpu_ns_per_packet":6500}]}]}'
	exit 0
fi
echo "$4 $6" >> %[1]q
case "$6" in
bare-pion) [ "$4" = idle ] && { echo "no such luck" >&2; exit 1; }; cpu=20000 ;;
sotto) cpu=$((9000 + 1000 * $(grep -c "$4 $6" %[1]q))) ;;
*) cpu=40000 ;;
esac
echo "{\"scenario\":\"$4\",\"server\":\"$6\",\"server_cpu_ns_per_packet\":$cpu,\"server_user_ns_per_packet\":3000,\"server_cpu_ratio\":0.03,\"packets_forwarded\":100,\"packets_forwarded_per_second\":8500,\"rss_bytes_per_leg\":90000,\"latency_seconds_p99\":0.001,\"load_reached_ratio\":0.9}"
`

// Servers take turns, medians become ratios, and what failed is said at the end, beside everything else.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	log, binary, page, results := filepath.Join(dir, "log"), filepath.Join(dir, "sotto"), filepath.Join(dir, "r.html"), filepath.Join(dir, "out", "r.jsonl")
	if err := os.WriteFile(binary, fmt.Appendf(nil, bench, log), 0o755); err != nil {
		t.Fatal(err)
	}
	var out, progress bytes.Buffer
	err := run(t.Context(), []string{
		"-sotto", binary, "-runs", "3", "-seconds", "1", "-servers", "sotto,bare-pion,plain-pion", "-scenarios", "fan,idle", "-report", page, "-results", results,
	}, &out, &progress)
	if err == nil {
		t.Error("a measure that failed is no error")
	}
	asked, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"fan sotto", "fan bare-pion", "fan plain-pion",
		"fan bare-pion", "fan plain-pion", "fan sotto",
		"fan plain-pion", "fan sotto", "fan bare-pion",
	}
	if diff := cmp.Diff(want, strings.Split(string(asked), "\n")[:9]); diff != "" {
		t.Error(diff)
	}
	for _, line := range []string{
		"ratio_bare_pion=0.550 scenario=fan\n", "ratio_plain_pion=0.275 scenario=fan\n", "ratio_plain_pion=1.000 scenario=idle\n",
		"11.0 (10.0..12.0)", "packets/s 8500", "idle, bare-pion: exit status 1: no such luck",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("%q is not said:\n%s", line, out.String())
		}
	}
	if strings.Contains(out.String(), "ratio_bare_pion=0.000") || strings.Contains(out.String(), "ratio_sotto") || strings.Contains(out.String(), "janus=") {
		t.Errorf("ratios of what was not measured:\n%s", out.String())
	}
	if n := strings.Count(progress.String(), "only 90 % of the load was reached"); n == 0 {
		t.Errorf("a load that was not reached is not told of:\n%s", progress.String())
	}
	text, err := os.ReadFile(page)
	if err != nil || strings.Count(string(text), "<svg") != 4 || strings.Contains(string(text), "NaN") || strings.Contains(string(text), "ZgotmplZ") {
		t.Errorf("page of %d bytes, %v", len(text), err)
	}
	if lines, err := os.ReadFile(results); err != nil || bytes.Count(lines, []byte("\n")) != 15 {
		t.Errorf("results: %s, %v", lines, err)
	}
}

// The relay is compared too, by one bench that has both servers, and its figures stand beside the others.
func TestRelay(t *testing.T) {
	if err := turn.Missing(turn.Coturn); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	log, binary, page, results := filepath.Join(dir, "log"), filepath.Join(dir, "sotto"), filepath.Join(dir, "r.html"), filepath.Join(dir, "r.jsonl")
	if err := os.WriteFile(binary, fmt.Appendf(nil, bench, log), 0o755); err != nil {
		t.Fatal(err)
	}
	var out, progress bytes.Buffer
	if err := run(t.Context(), []string{"-sotto", binary, "-scenarios", "turn", "-servers", "sotto", "-report", page, "-results", results}, &out, &progress); err != nil {
		t.Fatal(err)
	}
	asked, err := os.ReadFile(log)
	want := ""
	for _, engine := range []string{"batch", "auto"} {
		want += "bench turn -engine " + engine + " -beside coturn -runs 5 -families ipv4 -orders interleaved,bursts -duration 2s -json\n"
	}
	if err != nil || string(asked) != want {
		t.Errorf("%q, %v", asked, err)
	}
	for engine, most := range map[string]string{"batch": "0.5", "tcx": "0.02"} {
		line := "ratio_coturn=0.610 ratio_with_ends=0.900 scenario=turn engine=" + engine + " load=up-160-B-bursts most=" + most + "\n"
		if !strings.Contains(out.String(), line) {
			t.Errorf("%q is not said:\n%s", line, out.String())
		}
	}
	text, err := os.ReadFile(page)
	if err != nil || strings.Count(string(text), "<svg") != 4 || !strings.Contains(string(text), "up 160 B bursts") || strings.Contains(string(text), "NaN") {
		t.Errorf("page of %d bytes, %v", len(text), err)
	}
	if lines, err := os.ReadFile(results); err != nil || bytes.Count(lines, []byte("\n")) != 2 {
		t.Errorf("results: %s, %v", lines, err)
	}
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{{"-runs", "0"}, {"-seconds", "0"}, {"-scenarios", "none"}, {"-servers", "sotto,none"}, {"more"}, {"-x"}} {
		if _, err := parse(args, &bytes.Buffer{}); err == nil {
			t.Errorf("%v is understood", args)
		}
	}
	o, err := parse(nil, &bytes.Buffer{})
	if err != nil || len(o.scenarios) != len(scenarios)+1 || len(o.servers) != 4 || o.runs != 3 || o.seconds != 20 {
		t.Errorf("%+v, %v", o, err)
	}
}

// The strictest of what is aimed at counts, as far as the peers were measured.
func TestLimit(t *testing.T) {
	fan := scenarios[0]
	of := func(ns float64) []*sfu.Result { return []*sfu.Result{{ServerCPUNSPerPacket: ns}} }
	tab := &table{options: options{servers: servers}, cells: map[cell][]*sfu.Result{{"fan", target.Sotto}: of(11_000)}}
	if _, known := tab.met(fan, fan.rows[0]); known {
		t.Error("a target is known without peers")
	}
	tab.cells[cell{"fan", target.BarePion}] = of(20_000)
	if met, known := tab.met(fan, fan.rows[0]); !met || !known {
		t.Error("11 is more than 0.6 of 20")
	}
	tab.cells[cell{"fan", target.Janus}] = of(25_000)
	if met, known := tab.met(fan, fan.rows[0]); met || !known {
		t.Error("11 is less than 0.42 of 25")
	}
	if got := tab.limit(fan, fan.rows[0]); got < 10.49 || got > 10.51 {
		t.Errorf("limit %g", got)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{{[]float64{7}, 7}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := median(c.of); got != c.want {
			t.Errorf("%v: %g", c.of, got)
		}
	}
}

// Every load of the comparison is one of the bench.
func TestScenarios(t *testing.T) {
	for _, s := range scenarios {
		c := sfu.Command{
			Scenario: s.name, Rooms: -1, Publishers: -1, Receivers: -1, VideoBitrate: -1, FPS: 30, Audio: true, Joining: -1, Over: -1, Duration: 1e9,
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
}
