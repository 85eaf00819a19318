package signaling

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// The service and a real endpoint are what each other expects.
var (
	_ sfu.Observer = (*Service)(nil)
	_ Media        = (*NodeMedia)(nil)
	_ Endpoint     = (*sfu.Endpoint)(nil)
)

func TestNodeErrors(t *testing.T) {
	for err, code := range map[error]wire.Code{
		sfu.ErrNotFound:         wire.NotFound,
		sfu.ErrConflict:         wire.Conflict,
		sfu.ErrStaleOffer:       wire.StaleOffer,
		sfu.ErrBadAnswer:        wire.BadRequest,
		sfu.ErrTooMany:          wire.TooMany,
		sfu.ErrUnsupportedCodec: wire.UnsupportedCodec,
		sfu.ErrClosed:           wire.SessionGone,
	} {
		if got := fromNode(fmt.Errorf("around: %w", err)); !errors.Is(got, &wire.Error{Code: code}) {
			t.Errorf("%v becomes %v, want %s", err, got, code)
		}
	}
	if err := fromNode(context.Canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("an unknown error becomes %v", err)
	}
	if err := fromNode(nil); err != nil {
		t.Errorf("no error becomes %v", err)
	}
}
