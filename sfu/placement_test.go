package sfu

import "testing"

// A conference stays together while it is small and its shard has room, and spreads evenly beyond.
func TestChoose(t *testing.T) {
	const together = 4
	for _, c := range []struct {
		name  string
		loads []load
		on    []int
		want  int
		count Placement
	}{
		{"the first", []load{{2, 0}, {1, 0}, {3, 0}}, []int{0, 0, 0}, 1, Placement{First: 1}},
		{"small", []load{{3, 0}, {0, 0}}, []int{3, 0}, 0, Placement{Together: 1}},
		{"where most are", []load{{1, 0}, {5, 0}}, []int{1, 3}, 1, Placement{Together: 1}},
		{"large", []load{{4, 0}, {0, 0}}, []int{4, 0}, 1, Placement{Spread: 1}},
		{"large and even", []load{{4, 0}, {4, 0}}, []int{4, 4}, 0, Placement{Spread: 1}},
		{"small on a full shard", []load{{8, 0}, {0, 0}}, []int{1, 0}, 1, Placement{Spread: 1}},
		{"small on a busy shard", []load{{2, 0.9}, {5, 0.1}}, []int{2, 0}, 1, Placement{Spread: 1, Cooler: 1}},
		{"the first beside a busy shard", []load{{0, 0.9}, {5, 0.1}}, []int{0, 0}, 1, Placement{First: 1, Cooler: 1}},
		{"all busy", []load{{2, 0.9}, {5, 0.9}}, []int{2, 0}, 0, Placement{Together: 1}},
		{"one shard", []load{{7, 0.9}}, []int{7}, 0, Placement{Spread: 1}},
	} {
		var count Placement
		if got := choose(c.loads, c.on, together, &count); got != c.want || count != c.count {
			t.Errorf("%s: shard %d, %+v", c.name, got, count)
		}
	}
	// Forty-one, one after the other: even within a fifth.
	loads, on := make([]load, 2), make([]int, 2)
	var count Placement
	for range 41 {
		i := choose(loads, on, 16, &count)
		loads[i].sessions++
		on[i]++
	}
	if d := on[0] - on[1]; d < -4 || d > 4 {
		t.Errorf("%v", on)
	}
}
