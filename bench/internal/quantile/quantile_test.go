package quantile

import "testing"

func TestAt(t *testing.T) {
	hundred := Samples{}
	for i := 100; i > 0; i-- {
		hundred = append(hundred, float64(i))
	}
	for _, c := range []struct {
		s    Samples
		q    float64
		want float64
	}{
		{nil, 0.5, 0},
		{Samples{7}, 0.5, 7},
		{Samples{7}, 0.99, 7},
		{Samples{2, 1}, 0.5, 1},
		{Samples{2, 1, 3}, 0.5, 2},
		{hundred, 0, 1},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
	} {
		if got := c.s.At(c.q); got != c.want {
			t.Errorf("%v at %g: %g, want %g", c.s, c.q, got, c.want)
		}
	}
	if got := hundred.Max(); got != 100 {
		t.Errorf("max %g", got)
	}
	if hundred[0] != 100 {
		t.Error("the samples were sorted in place")
	}
}
