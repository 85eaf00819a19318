package spool_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sotto-edge/sotto/internal/spool"
)

// TestSlow: who does not read loses whole frames, the ones that come last, holds up nobody, and is given up after a while.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		s := spool.New(here, spool.Config{Bytes: 100, Patience: time.Second})
		frame := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 29) }
		if !s.Put([]byte{0}, frame(0)) {
			t.Fatal("the first frame is lost")
		}
		synctest.Wait() // it is being written
		for i := 1; i <= 5; i++ {
			if got, want := s.Put([]byte{byte(i)}, frame(i)), i <= 3; got != want {
				t.Errorf("frame %d was taken: %v", i, got)
			}
		}
		got := make([]byte, 4*30)
		if _, err := io.ReadFull(there, got); err != nil {
			t.Fatal(err)
		}
		for i, b := range got {
			if b != byte(i/30) {
				t.Fatalf("byte %d is %d", i, b)
			}
		}
		if !s.Put(frame(6)) {
			t.Error("no room after all was read")
		}
		began := time.Now()
		synctest.Wait()
		time.Sleep(2 * time.Second)
		if _, err := there.Read(got); !errors.Is(err, io.EOF) {
			t.Errorf("a stream that takes nothing for %v is open: %v", time.Since(began), err)
		}
		if s.Put(frame(7)) {
			t.Error("a frame was taken after the end")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		_ = s.Close()
	})
}
