package sfu

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/target"
	"github.com/sotto-edge/sotto/bench/internal/terminal"
)

// build makes a program of this module.
func build(t *testing.T, pkg string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, pkg).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// figures runs the command and returns its one object.
func figures(t *testing.T, c Command) map[string]any {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if err := c.Run(terminal.Terminal{Out: &out, Err: &errs}); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	if errs.Len() > 0 {
		t.Errorf("progress beside -json: %s", errs.String())
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
		t.Fatalf("%v: not one object on one line: %s", err, out.String())
	}
	return got
}

// whole checks what holds however busy the machine is: every packet came to everybody, and the figures are there.
func whole(t *testing.T, got map[string]any, fan float64, zero ...string) {
	t.Helper()
	for _, figure := range []string{
		"server_cpu_ns_per_packet", "packets_forwarded_per_second", "latency_seconds_p50", "latency_seconds_p99", "residence_seconds_p99",
		"rss_bytes", "join_seconds_p50", "join_seconds_p99",
	} {
		if v, ok := got[figure].(float64); !ok || v < 0 || v == 0 && !slices.Contains(zero, figure) {
			t.Errorf("%s is %v", figure, got[figure])
		}
	}
	for _, figure := range []string{"loss_ratio", "packets_lost"} {
		if v, ok := got[figure].(float64); !ok || v != 0 {
			t.Errorf("%s is %v", figure, got[figure])
		}
	}
	sent, forwarded := got["packets_sent"].(float64), got["packets_forwarded"].(float64)
	// Senders and receivers are not read at one moment, and a busy machine makes more of that.
	if want := sent * fan; forwarded < want/2 || forwarded > 2*want {
		t.Errorf("%.0f packets forwarded of %.0f for each of %.0f receivers", forwarded, sent, fan)
	}
}

// page checks that a report was written, and all of it could be drawn.
func page(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(text), "<svg") || strings.Contains(string(text), "NaN") {
		t.Errorf("report of %d bytes: %v", len(text), err)
	}
}

// The bench runs the real appliance as its child, and finds every packet at every receiver.
func TestRun(t *testing.T) {
	binary := build(t, "../../cmd/sotto")
	fan := scenario("fan")
	fan.Receivers, fan.Duration, fan.Report = 5, 2*time.Second, filepath.Join(t.TempDir(), "report.html")
	fan.Profile = filepath.Join(t.TempDir(), "cpu.pprof")
	meeting := scenario("rooms")
	meeting.Rooms, meeting.Publishers, meeting.Receivers, meeting.FPS, meeting.Paced, meeting.SRTP = 2, 3, 1, 15, true, "cm"
	sound := scenario("fan")
	sound.Receivers, sound.VideoBitrate = 2, 0
	for name, run := range map[string]struct {
		command Command
		fan     float64
		zero    []string
	}{
		"one publisher":     {command: fan, fan: 5},
		"two rooms over CM": {command: meeting, fan: 3},
		"sound":             {command: sound, fan: 2, zero: []string{"server_cpu_ns_per_packet"}}, // less than /proc counts
	} {
		if testing.Short() && name != "one publisher" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			run.command.Server = binary
			whole(t, figures(t, run.command), run.fan, append(run.zero, "residence_seconds_p99")...)
		})
	}
	page(t, fan.Report)
	if st, err := os.Stat(fan.Profile); err != nil || st.Size() == 0 {
		t.Errorf("no profile: %v", err)
	}
}

// Who receives nothing has no latency, and the page says what there is.
func TestIdle(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the appliance")
	}
	c := scenario("idle")
	c.Receivers, c.Server, c.Report = 3, build(t, "../../cmd/sotto"), filepath.Join(t.TempDir(), "report.html")
	got := figures(t, c)
	if got["packets_sent"].(float64) != 0 || got["latency_samples"].(float64) != 0 {
		t.Errorf("idle: %v", got)
	}
	page(t, c.Report)
}

// Joins that overlap each have a share of the server's and one of the client's.
func TestStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the appliance")
	}
	c := scenario("storm")
	c.Receivers, c.Over, c.Server, c.Report = 6, time.Second, build(t, "../../cmd/sotto"), filepath.Join(t.TempDir(), "report.html")
	got := figures(t, c)
	join, own := got["join_seconds_p99"].(float64), got["join_server_seconds_p50"].(float64)
	if own <= 0 || own > join || got["join_client_seconds_p50"].(float64) <= 0 {
		t.Errorf("of %g s to join %g s are the server's", join, own)
	}
	page(t, c.Report)
	if text, err := os.ReadFile(c.Report); err != nil || !strings.Contains(string(text), "who join within 1\u00a0s") || !strings.Contains(string(text), "Who has joined") {
		t.Errorf("the page does not show the storm: %v", err)
	}
}

// Publishers of a process of their own are counted as those of this one.
func TestApart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the appliance")
	}
	c := scenario("large")
	c.Receivers, c.Server, c.Report = 4, build(t, "../../cmd/sotto"), filepath.Join(t.TempDir(), "report.html")
	got := figures(t, c)
	whole(t, got, 4, "residence_seconds_p99", "server_cpu_ns_per_packet")
	if got["residence_samples"].(float64) != 0 || got["receivers_without_loss"].(float64) != 4 {
		t.Errorf("%v", got)
	}
	page(t, c.Report)
}

// Every receiver is behind its own line, and what came over it is told.
func TestSimulcast(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the appliance")
	}
	c := scenario("simulcast")
	c.Duration, c.Server, c.Report = 5*time.Second, build(t, "../../cmd/sotto"), filepath.Join(t.TempDir(), "report.html")
	got := figures(t, c)
	all, _ := got["lines"].([]any)
	if len(all) != len(lines) {
		t.Fatalf("%d lines: %v", len(all), got)
	}
	for i, one := range all {
		l := one.(map[string]any)
		if l["line"] != lines[i].name || l["bits_per_second_while_bad"].(float64) <= 0 || l["picture_gap_seconds_max"].(float64) <= 0 {
			t.Errorf("line %d: %v", i, l)
		}
	}
	page(t, c.Report)
}

// Pictures become as large as it takes to load the server, and the time in it is measured then.
func TestAim(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the appliance")
	}
	c := scenario("residence")
	c.Publishers, c.Receivers, c.VideoBitrate, c.Server, c.Report = 2, 2, 100_000, build(t, "../../cmd/sotto"), filepath.Join(t.TempDir(), "report.html")
	got := figures(t, c)
	// A busy machine may have half a core's work with the smallest ones.
	if rate := got["video_bits_per_second"].(float64); rate < 100_000 {
		t.Errorf("pictures of %g bit/s are smaller than at first", rate)
	}
	if got["residence_samples"].(float64) == 0 {
		t.Errorf("no samples: %v", got)
	}
	page(t, c.Report)
}

// The plain pion SFU is loaded by the same sockets, in both its shapes.
func TestPion(t *testing.T) {
	binary := build(t, "../peer")
	for _, name := range []string{"bare-pion", "plain-pion"} {
		if testing.Short() && name != "bare-pion" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			c := scenario("fan")
			c.Target, c.Peer, c.Receivers, c.Duration = name, binary, 2, 2*time.Second
			whole(t, figures(t, c), 2, "residence_seconds_p99")
			if testing.Short() {
				return
			}
			c = scenario("meeting")
			c.Target, c.Peer, c.Publishers = name, binary, 3
			whole(t, figures(t, c), 2, "residence_seconds_p99", "server_cpu_ns_per_packet")
		})
	}
}

// Janus is loaded in a network namespace, which only root can make.
func TestJanus(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Janus")
	}
	if err := target.Missing(target.Janus); err != nil {
		t.Skip(err)
	}
	out, err := exec.CommandContext(t.Context(), build(t, "../../cmd/sotto"), "bench", "sfu", "-target", "janus", "-receivers", "2", "-duration", "2s", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	whole(t, got, 2, "residence_seconds_p99")
}

// A server that does not come up is reported with what it says.
func TestServerFails(t *testing.T) {
	c := scenario("fan")
	c.Server = "/bin/false"
	err := c.Run(terminal.Terminal{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}})
	if err == nil || !strings.Contains(err.Error(), "the server ended") {
		t.Errorf("%v", err)
	}
}
