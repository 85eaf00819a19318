package netem_test

import (
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/bench/netem"
)

func TestParseScript(t *testing.T) {
	const text = `
		# a bottleneck comes and goes
		0s both delay=20ms
		10s down rate=300k queue=64kB queue=500ms loss=5% # narrow
		15s up burst=20%/8; 20s up jitter=30ms overtake reorder=1% duplicate=0.5

		25s down rate=1.5Mbit/s burst=0.01/0.25/0/0.9 reorder=0.1/7ms
		30s clear
	`
	both, up, down := []netem.Direction{netem.Up, netem.Down}, []netem.Direction{netem.Up}, []netem.Direction{netem.Down}
	want := []netem.Step{
		{0, both, netem.Impairment{Delay: 20 * ms}},
		{10 * time.Second, down, netem.Impairment{Rate: 300_000, Queue: 64_000, QueueTime: 500 * ms, Loss: 0.05}},
		{15 * time.Second, up, netem.Impairment{Burst: netem.Bursts(0.2, 8)}},
		{20 * time.Second, up, netem.Impairment{Jitter: 30 * ms, Overtake: true, Reorder: 0.01, Duplicate: 0.5}},
		{25 * time.Second, down, netem.Impairment{
			Rate: 1_500_000, Burst: netem.Burst{Enter: 0.01, Leave: 0.25, LossBad: 0.9}, Reorder: 0.1, ReorderBy: 7 * ms,
		}},
		{30 * time.Second, both, netem.Impairment{}},
	}
	got, err := netem.ParseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseScriptRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"10s":                          "says nothing",
		"10s down":                     "says nothing",
		"soon clear":                   "want a time",
		"-1s clear":                    "want a time",
		"1s loss=5% loss=6%":           "twice",
		"1s loss=105%":                 "want a share",
		"1s loss":                      "want a share",
		"1s clear loss=5%":             "stands alone",
		"1s clear=5":                   "no value",
		"1s colour=blue":               "no such term",
		"1s burst=20%":                 "SHARE/LENGTH",
		"1s burst=100%/3":              "below 1",
		"1s burst=90%/2":               "below 1",
		"1s burst=1/2/3/4":             "want a share",
		"1s rate=0":                    "carry nothing",
		"1s rate=fast":                 "want a number",
		"1s queue=5ms":                 "needs a rate",
		"1s rate=1M queue=many":        "invalid duration",
		"1s rate=1M queue=99999999MB":  "want a number",
		"1s overtake":                  "needs jitter",
		"1s delay=2h":                  "times are",
		"1s reorder=1%/x":              "invalid duration",
		"2s clear; 1s clear":           "before the step above",
		"0s clear\n\n1s both sideways": "line 3",
	} {
		_, err := netem.ParseScript(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseScript(f *testing.F) {
	f.Add("0s both delay=20ms\n10s down rate=300k queue=64kB queue=500ms loss=5%; 12s up burst=20%/8 # x")
	f.Add("1s burst=0.1/0.2/0/1 jitter=3ms overtake reorder=1%/2ms duplicate=1%")
	f.Add("10s clear;;")
	f.Fuzz(func(t *testing.T, text string) {
		steps, err := netem.ParseScript(text)
		if err != nil {
			return
		}
		last := time.Duration(0)
		for _, s := range steps {
			if s.At < last || len(s.Directions) == 0 {
				t.Fatalf("%+v", s)
			}
			last = s.At
			if err := s.Impairment.Validate(); err != nil {
				t.Fatalf("%+v: %v", s, err)
			}
			// Whatever it says, a line takes it, and every packet comes to an end.
			l := newLab(1, s.Impairment)
			l.send(0, 20, 1200, ms)
			l.until(1000 * time.Hour)
			if st := l.Stats(l.now); st.Packets != 21 || 21+st.Duplicated != st.Delivered+st.Lost+st.LostBurst+st.Dropped {
				t.Fatalf("%+v: %+v", s, st)
			}
		}
	})
}
