package backup

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzDecodeRow(f *testing.F) {
	for _, values := range [][]any{
		{}, {nil, true, false, "", "x\x7f漢"}, {int64(math.MinInt64), int64(math.MaxInt64)}, {1.5, math.Inf(1), []byte{}, []byte{0, 255}},
	} {
		line, err := encodeRow(values)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
		if got, err := decodeRow(line); err != nil || !cmp.Equal(got, values) {
			f.Errorf("%v came back as %v, %v", values, got, err)
		}
	}
	f.Add([]byte(`[{"b":"=="},[],{"f":"x"},1.5,1e400]`))
	f.Add([]byte(`null0`))
	f.Add([]byte(`[1] [2]`))
	f.Fuzz(func(t *testing.T, line []byte) {
		values, err := decodeRow(line)
		if err != nil {
			return
		}
		again, err := encodeRow(values)
		if err != nil {
			return // a NUL, which no text of ours has
		}
		got, err := decodeRow(again)
		if err != nil || !cmp.Equal(got, values, cmp.Comparer(func(a, b float64) bool { return a == b || a != a && b != b })) {
			t.Errorf("%q: %v came back as %v, %v", line, values, got, err)
		}
	})
}
