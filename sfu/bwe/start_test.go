package bwe_test

import (
	"math"
	"testing"

	"github.com/sotto-edge/sotto/sfu/bwe"
)

func TestBounds(t *testing.T) {
	e := bwe.New(bwe.Config{Start: 10, Min: 100_000, Max: 200_000})
	if got := e.Target(); got != 100_000 {
		t.Errorf("starts at %d, below its least", got)
	}
	if next := e.Tick(5); next != math.MaxInt64 {
		t.Errorf("has something to do at %d, with nothing sent", next)
	}
	if e.Congested() {
		t.Error("congested, with nothing sent")
	}
}
