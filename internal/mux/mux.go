// Package mux turns received RTP into files that players open: it puts the packets of a video stream together to pictures
// (VP8, VP9, H.264, AV1), and writes Ogg with Opus, WebM and Matroska with video, and rtpdump with whatever cannot be read.
//
// It promises that a file is playable up to its last whole page or cluster at any moment, whatever happens to the process; that
// a write that fails leaves no half of a page or cluster in the middle of the file, so that the same writer may go on when there
// is room again; that a picture with a missing packet is never written, nor one that needs it; and that no input makes a
// depacketizer panic or hold more than the bounds stated here.
//
// It knows no clocks but those of its callers, opens no files, decodes nothing, and puts no two tracks into one file: tracks of a
// meeting begin and end by themselves, and are put side by side afterwards by what a manifest says. It is not for the packet
// path: it allocates.
package mux

import (
	"errors"
	"fmt"
	"io"
)

// ErrTooLarge is returned for a packet or picture that no container here takes.
var ErrTooLarge = errors.New("mux: too large")

// sink writes at its own offset, which moves only over what was written whole. After a failure the next write begins at the same
// place, over whatever half of the last one had come to the disk.
type sink struct {
	w   io.WriterAt
	off int64
}

func (s *sink) append(b []byte) error {
	if _, err := s.w.WriteAt(b, s.off); err != nil {
		return fmt.Errorf("mux: write: %w", err)
	}
	s.off += int64(len(b))
	return nil
}

// patch overwrites what stands at a place already written.
func (s *sink) patch(b []byte, at int64) error {
	if _, err := s.w.WriteAt(b, at); err != nil {
		return fmt.Errorf("mux: write: %w", err)
	}
	return nil
}
