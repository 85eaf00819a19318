//go:build !linux

package turn

import (
	"context"
	"errors"
)

// stampSize is what the bench writes at the beginning of each payload.
const stampSize = 24

// measure needs /proc and the batched calls of Linux's sockets.
func measure(context.Context, *Command, []subject, func(string, ...any)) (*Result, error) {
	return nil, errors.New("bench: turn is measured on Linux only")
}
