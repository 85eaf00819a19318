//go:build !linux

package sfu

import (
	"context"
	"errors"
	"io"
)

// measure needs /proc and the time stamps of Linux's sockets.
func measure(context.Context, load, subject, func(string, ...any)) (*Result, error) {
	return nil, errors.New("bench: sfu is measured on Linux only")
}

func (*Command) elsewhere() (bool, error) { return false, nil }

func publishApart(context.Context, load, string, io.Reader, io.Writer) error {
	return errors.New("bench: sfu is measured on Linux only")
}
