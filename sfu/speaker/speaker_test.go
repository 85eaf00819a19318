package speaker_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sotto-edge/sotto/sfu/speaker"
)

const ms = int64(1e6)

// talk is what somebody says from one moment to another, in milliseconds; outside of all talks there is silence.
type talk struct {
	id       uint64
	from, to int64
	level    uint8
	// syllable and gap, in milliseconds, make the talk rise and fall as speech does; 0 is a steady sound.
	syllable, gap int64
	unsaid        bool // without the voice flag
}

func (k talk) at(now int64) (uint8, bool) {
	if now < k.from || now >= k.to {
		return 127, false
	}
	if k.syllable > 0 && (now-k.from)%(k.syllable+k.gap) >= k.syllable {
		return 75, false
	}
	return k.level, !k.unsaid
}

type change struct {
	at int64 // ms
	id uint64
}

// simulate plays the talks of a conference, a packet each 20 ms from everybody, and a tick each 50 ms.
func simulate(d *speaker.Detector, until int64, ptime int64, talks ...talk) []change {
	var out []change
	ids := map[uint64]bool{}
	for _, k := range talks {
		ids[k.id] = true
	}
	for now := int64(0); now < until; now += 10 {
		if now%ptime == 0 {
			for id := range ids {
				level, voice := uint8(127), false
				for _, k := range talks {
					if k.id != id {
						continue
					}
					if l, v := k.at(now); l < level {
						level, voice = l, v
					}
				}
				d.Level(id, level, voice, now*ms)
			}
		}
		if now%50 == 0 {
			if id, changed := d.Tick(now * ms); changed {
				out = append(out, change{now, id})
			}
		}
	}
	return out
}

// Who speaks is found in conversations of all kinds. Row C5.
func TestConversations(t *testing.T) {
	type expect struct {
		id       uint64
		from, to int64 // ms, when the change may come
	}
	for _, c := range []struct {
		name  string
		until int64
		ptime int64
		talks []talk
		want  []expect
	}{
		{"one speaks and stops", 8000, 20, []talk{{id: 1, from: 1000, to: 4000, level: 30, syllable: 160, gap: 80}, {id: 2}}, []expect{
			{1, 1100, 1300}, {0, 5800, 6200},
		}},
		{"a dialogue", 9000, 20, []talk{
			{id: 1, from: 0, to: 3000, level: 30, syllable: 200, gap: 60}, {id: 2, from: 3300, to: 6000, level: 35, syllable: 200, gap: 60},
		}, []expect{{1, 100, 300}, {2, 3400, 3800}, {0, 7700, 8200}}},
		{"pauses between sentences", 6000, 20, []talk{
			{id: 1, from: 0, to: 1000, level: 30}, {id: 1, from: 2400, to: 3000, level: 30}, {id: 2},
		}, []expect{{1, 100, 200}, {0, 4900, 5200}}},
		{"interrupted by somebody clearly louder", 5000, 20, []talk{
			{id: 1, from: 0, to: 4900, level: 45, syllable: 200, gap: 60}, {id: 2, from: 2000, to: 4900, level: 20, syllable: 200, gap: 60},
		}, []expect{{1, 100, 300}, {2, 2300, 2700}}},
		{"two as loud as each other", 8000, 20, []talk{
			{id: 1, from: 0, to: 7900, level: 30, syllable: 200, gap: 100}, {id: 2, from: 1000, to: 7900, level: 29, syllable: 240, gap: 70},
		}, []expect{{1, 100, 300}}},
		{"a door slams over a speaker", 4000, 20, []talk{
			{id: 1, from: 0, to: 3900, level: 40, syllable: 200, gap: 60}, {id: 2, from: 2000, to: 2090, level: 0},
		}, []expect{{1, 100, 300}}},
		{"a door slams in silence", 4000, 20, []talk{{id: 1}, {id: 2, from: 2000, to: 2090, level: 0}}, nil},
		{"typing in silence", 6000, 20, []talk{{id: 1, from: 0, to: 6000, level: 20, syllable: 40, gap: 100, unsaid: true}}, nil},
		{"a word into a speech is not enough", 5000, 20, []talk{
			{id: 1, from: 0, to: 4900, level: 40}, {id: 2, from: 2000, to: 2240, level: 10},
		}, []expect{{1, 100, 200}}},
		{"a hum below the threshold", 5000, 20, []talk{{id: 1, from: 0, to: 5000, level: 60}, {id: 2, from: 0, to: 5000, level: 50, unsaid: true}}, nil},
		{"long packets", 6000, 60, []talk{{id: 1, from: 0, to: 3000, level: 30, syllable: 300, gap: 60}, {id: 2}}, []expect{
			{1, 100, 300}, {0, 4700, 5200},
		}},
		{"the longest packets", 6000, 120, []talk{{id: 1, from: 0, to: 3000, level: 30}}, []expect{{1, 100, 300}, {0, 4700, 5200}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d speaker.Detector
			got := simulate(&d, c.until, c.ptime, c.talks...)
			ok := len(got) == len(c.want)
			for i := range got {
				ok = ok && got[i].id == c.want[i].id && got[i].at >= c.want[i].from && got[i].at <= c.want[i].to
			}
			if !ok {
				t.Errorf("changes %v, want %v", got, c.want)
			}
		})
	}
}

func TestSilenceSuppression(t *testing.T) {
	// With DTX nothing comes in silence: time alone must end a turn.
	var d speaker.Detector
	for now := int64(0); now < 1000; now += 20 {
		d.Level(1, 30, true, now*ms)
		d.Tick(now * ms)
	}
	if id, changed := d.Tick(2900 * ms); id != 1 || changed {
		t.Errorf("speaker %d, changed %v, two seconds after the last word", id, changed)
	}
	if id, changed := d.Tick(3000 * ms); id != 0 || !changed {
		t.Errorf("speaker %d, changed %v, later", id, changed)
	}
	if id, changed := d.Tick(4000 * ms); id != 0 || changed {
		t.Errorf("speaker %d, changed %v, much later", id, changed)
	}
}

func TestRemove(t *testing.T) {
	var d speaker.Detector
	simulate(&d, 2000, 20, talk{id: 1, from: 0, to: 2000, level: 30}, talk{id: 2, from: 0, to: 2000, level: 32}, talk{id: 3})
	first, _ := d.Tick(2000 * ms)
	other := 3 - first
	d.Remove(99)
	d.Remove(first)
	if id, changed := d.Tick(2000 * ms); id != other || !changed {
		t.Errorf("speaker %d, changed %v, after %d left; want %d", id, changed, first, other)
	}
	d.Remove(other)
	d.Remove(3)
	if id, changed := d.Tick(2000 * ms); id != 0 || !changed {
		t.Errorf("speaker %d, changed %v, after all left", id, changed)
	}
	if l := d.Heard(nil); len(l) != 0 {
		t.Errorf("heard %v after all left", l)
	}
}

// placed is who was among the first n of Heard, from when.
type placed struct {
	at  int64
	ids []uint64
}

// listen plays talks as simulate does, and notes each change of those among the first n places, in the order of their ids.
func listen(d *speaker.Detector, until int64, n int, talks ...talk) (out []placed) {
	var last []uint64
	for now := int64(0); now < until; now += 20 {
		for id := uint64(1); id <= 8; id++ {
			level, voice := uint8(127), false
			for _, k := range talks {
				if k.id != id {
					continue
				}
				if l, v := k.at(now); l < level {
					level, voice = l, v
				}
			}
			d.Level(id, level, voice, now*ms)
		}
		d.Tick(now * ms)
		heard := d.Heard(nil)
		heard = heard[:min(n, len(heard))]
		slices.Sort(heard)
		if !slices.Equal(heard, last) {
			last = heard
			out = append(out, placed{now, heard})
		}
	}
	return out
}

// Whoever speaks is heard from the first packet to a while after the last, and more than there are places for change only by
// right.
func TestHeard(t *testing.T) {
	speech := func(id uint64, from, to int64, level uint8) talk {
		return talk{id: id, from: from, to: to, level: level, syllable: 180, gap: 60}
	}
	for _, c := range []struct {
		name  string
		talks []talk
		want  []placed // at: the latest
		early []int64  // the earliest, where that is not the latest
	}{
		{"one word", []talk{{id: 1, from: 1000, to: 1200, level: 40}}, []placed{{1000, []uint64{1}}, {2700, nil}}, nil},
		{"below the threshold", []talk{{id: 1, from: 1000, to: 3000, level: 60}, {id: 2, from: 1000, to: 3000, level: 50, unsaid: true}}, nil, nil},
		{"breath between sentences", []talk{speech(1, 0, 1000, 30), speech(1, 2200, 3000, 30)}, []placed{{0, []uint64{1}}, {4700, nil}}, []int64{0, 4400}},
		{"two at once", []talk{speech(1, 0, 3000, 30), speech(2, 1000, 2000, 40)}, []placed{
			{0, []uint64{1}}, {1000, []uint64{1, 2}}, {3500, []uint64{1}}, {4500, nil},
		}, []int64{0, 1000, 3300, 4300}},
		{"a third as loud as the two has to wait for a pause", []talk{speech(1, 0, 2000, 30), speech(2, 100, 4900, 30), speech(3, 500, 4900, 28)}, []placed{
			{0, []uint64{1}}, {100, []uint64{1, 2}}, {2700, []uint64{2, 3}},
		}, []int64{0, 100, 2300}},
		{"a third that is clearly louder comes before the quieter", []talk{speech(1, 0, 4900, 30), speech(2, 100, 4900, 45), speech(3, 1000, 4900, 25)}, []placed{
			{0, []uint64{1}}, {100, []uint64{1, 2}}, {1500, []uint64{1, 3}},
		}, []int64{0, 100, 1150}},
		{"a door slams into two speeches", []talk{speech(1, 0, 4900, 30), speech(2, 100, 4900, 45), {id: 3, from: 1000, to: 1080, level: 0}}, []placed{
			{0, []uint64{1}}, {100, []uint64{1, 2}},
		}, nil},
		{"a noise that has a place gives it up at once", []talk{{id: 1, from: 1000, to: 1060, level: 0}, speech(2, 900, 4900, 40), speech(3, 1500, 4900, 40)}, []placed{
			{900, []uint64{2}}, {1000, []uint64{1, 2}}, {1640, []uint64{2, 3}},
		}, []int64{900, 1000, 1600}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d speaker.Detector
			got := listen(&d, 5000, 2, c.talks...)
			ok := len(got) == len(c.want)
			for i := range got {
				if !ok {
					break
				}
				early := c.want[i].at
				if i < len(c.early) {
					early = c.early[i]
				}
				ok = slices.Equal(got[i].ids, c.want[i].ids) && got[i].at <= c.want[i].at && got[i].at >= early
			}
			if !ok {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	var d speaker.Detector
	d.Level(1, 20, true, 0)
	d.Level(2, 20, true, 0)
	if got := d.Heard([]uint64{7}); !slices.Equal(got, []uint64{7, 1, 2}) {
		t.Errorf("heard %v", got)
	}
	d.Remove(1)
	if got := d.Heard(nil); !slices.Equal(got, []uint64{2}) {
		t.Errorf("heard %v after one has left", got)
	}
	d.Tick(1600 * ms)
	if got := d.Heard(nil); len(got) != 0 {
		t.Errorf("heard %v after silence", got)
	}
}

// Among more people of about the same loudness than there are places, all talking at once in syllables of their own, nobody loses
// a place who does not pause, and nobody has one who does not speak.
func TestHeardCalm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var talks []talk
		ends := map[uint64]int64{}
		for id := uint64(1); id <= 8; id++ {
			from := rapid.Int64Range(0, 100).Draw(t, "from") * 20
			k := talk{
				id: id, from: from, to: from + rapid.Int64Range(20, 300).Draw(t, "length")*20, level: uint8(rapid.IntRange(28, 32).Draw(t, "level")),
				syllable: rapid.Int64Range(7, 15).Draw(t, "syllable") * 20, gap: rapid.Int64Range(1, 10).Draw(t, "gap") * 20,
			}
			talks = append(talks, k)
			ends[id] = k.to
		}
		var d speaker.Detector
		var last []uint64
		for _, p := range listen(&d, 10000, 3, talks...) {
			for _, id := range last {
				if !slices.Contains(p.ids, id) && p.at < ends[id] {
					t.Fatalf("at %d: %d has lost its place to one of %v, in the middle of what it says", p.at, id, p.ids)
				}
			}
			for _, id := range p.ids {
				if p.at > ends[id]+1500 || p.at < talks[id-1].from {
					t.Fatalf("at %d: %d has a place and does not speak", p.at, id)
				}
			}
			last = p.ids
		}
		if len(last) != 0 {
			t.Fatalf("heard after everybody's end: %v", last)
		}
	})
}

// TestBurstsNeverSwitch: whatever the noises of others, if each is shorter than 100 ms and none follows within 200 ms of
// the one before from the same microphone, the speaker stays.
func TestBurstsNeverSwitch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		until := int64(6000)
		var talks []talk
		var want []change
		if rapid.Bool().Draw(t, "somebody speaks") {
			level := uint8(rapid.IntRange(0, 70).Draw(t, "level"))
			talks = append(talks, talk{id: 1, from: 0, to: until, level: level})
			if level <= 55 {
				want = []change{{100, 1}}
			}
		}
		for id := uint64(2); id < 5; id++ {
			for now := int64(0); now < until; {
				now += rapid.Int64Range(200, 1500).Draw(t, "quiet")
				n := rapid.Int64Range(1, 99).Draw(t, "burst")
				talks = append(talks, talk{id: id, from: now, to: now + n, level: uint8(rapid.IntRange(0, 60).Draw(t, "level"))})
				now += n
			}
		}
		var d speaker.Detector
		if got := simulate(&d, until, 20, talks...); !slices.Equal(got, want) {
			t.Fatalf("changes %v, want %v", got, want)
		}
	})
}

// TestCalm: over random speech there is at most one change in 300 ms unless the speaker before had stopped, and the
// speaker is always somebody who spoke within the last two seconds.
func TestCalm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d speaker.Detector
		spoke := map[uint64]int64{}
		level := map[uint64]uint8{}
		var current uint64
		var since int64
		for now := int64(0); now < 8000; now += 20 {
			for id := uint64(1); id <= 4; id++ {
				if now%200 == 0 {
					level[id] = rapid.SampledFrom([]uint8{10, 25, 40, 80, 127}).Draw(t, "level")
				}
				d.Level(id, level[id], level[id] < 70, now*ms)
				if level[id] < 70 {
					spoke[id] = now
				}
			}
			id, changed := d.Tick(now * ms)
			if changed != (id != current) {
				t.Fatalf("at %d: speaker %d after %d, changed %v", now, id, current, changed)
			}
			if changed && current != 0 && id != 0 && now-since < 300 && now-spoke[current] <= 500 {
				t.Fatalf("at %d: from %d to %d after %d ms", now, current, id, now-since)
			}
			if id != 0 && now-spoke[id] > 2000 {
				t.Fatalf("at %d: the speaker has been silent since %d", now, spoke[id])
			}
			if changed {
				current, since = id, now
			}
		}
	})
}

func TestNothingAllocates(t *testing.T) {
	var d speaker.Detector
	now := int64(0)
	dst := make([]uint64, 0, 32)
	run := func() {
		for range 50 {
			now += 20 * ms
			for id := uint64(1); id < 20; id++ {
				d.Level(id, uint8(now/ms+int64(id)*7)&63, true, now)
			}
			d.Tick(now)
			dst = d.Heard(dst[:0])
		}
	}
	if n := testing.AllocsPerRun(10, run); n != 0 {
		t.Errorf("allocates %v times", n)
	}
}

// All of a large meeting talk at once.
func BenchmarkTick500(b *testing.B) {
	var d speaker.Detector
	now := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		now += 50 * ms
		for id := uint64(1); id <= 500; id++ {
			d.Level(id, uint8(20+(id*7+uint64(now/ms/50)*3)%20), true, now)
		}
		d.Tick(now)
	}
}

func BenchmarkTick100(b *testing.B) {
	var d speaker.Detector
	now := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		now += 50 * ms
		for id := uint64(1); id <= 100; id++ {
			d.Level(id, uint8(id), true, now)
		}
		d.Tick(now)
	}
}
