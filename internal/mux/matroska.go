package mux

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/sotto-edge/sotto/internal/rtp"
)

const (
	clusterSpan = 1000    // ms: a cluster is written at the latest after this, so that a cut loses no more
	clusterSize = 1 << 20 // bytes: and at this size
	maxPicture  = 8 << 20 // bytes
	maxCues     = 4096    // more are thinned out: one every few seconds finds any place
)

// VideoConfig describes the one track of a Matroska file.
type VideoConfig struct {
	Codec         rtp.Codec
	Width, Height int
	Private       []byte // the codec's configuration record, of H.264 and AV1
}

// Extension returns the usual end of the file's name.
func (c VideoConfig) Extension() string {
	if c.Codec == rtp.H264 { // no codec of WebM
		return ".mkv"
	}
	return ".webm"
}

// Matroska writes one video track into a Matroska file (RFC 9559), which for VP8, VP9 and AV1 is a WebM file.
//
// It can be read while it is written: the segment has no size until the end, clusters have theirs, and the duration is brought up
// to date with each. Close adds the index and fills in what was left open.
type Matroska struct {
	out sink

	segment    int64 // place of the segment's content
	seek       int64 // place kept for the SeekHead
	info       int64
	tracks     int64
	durationAt int64

	cluster []byte
	base    int64 // ms: time of the cluster at hand
	keyed   bool  // it begins with a key frame
	last    int64 // ms: of the last picture
	step    int64 // ms: between the last two
	any     bool
	settled int64 // ms: end of what is written
	cues    []cue
	spacing int64 // ms between cues
	closed  bool
}

type cue struct{ at, place int64 }

// seekRoom is the size kept for the SeekHead: three entries of 20 bytes at most, its own head, and a Void behind it.
const seekRoom = 96

// NewMatroska writes the head of a file.
func NewMatroska(w io.WriterAt, cfg VideoConfig) (*Matroska, error) {
	codec, doctype := "", "webm"
	switch cfg.Codec {
	case rtp.VP8:
		codec = "V_VP8"
	case rtp.VP9:
		codec = "V_VP9"
	case rtp.AV1:
		codec = "V_AV1"
	case rtp.H264:
		codec, doctype = "V_MPEG4/ISO/AVC", "matroska"
	default:
		return nil, fmt.Errorf("mux: no Matroska mapping of %v", cfg.Codec)
	}
	m := &Matroska{out: sink{w: w}, spacing: 1}

	head := appendUint(nil, idEBMLVersion, 1)
	head = appendUint(head, idEBMLReadVersion, 1)
	head = appendUint(head, idEBMLMaxIDLength, 4)
	head = appendUint(head, idEBMLMaxSize, 8)
	head = appendString(head, idDocType, doctype)
	head = appendUint(head, idDocTypeVersion, 4)
	head = appendUint(head, idDocTypeRead, 2)
	b := appendBytes(nil, idEBML, head)
	b = appendSize8(appendID(b, idSegment), unknownSize)
	m.segment = int64(len(b))

	m.seek = int64(len(b))
	b = appendVoid(b, seekRoom)

	m.info = int64(len(b))
	info := appendUint(nil, idTimestampScale, 1e6)
	info = appendString(info, idMuxingApp, "sotto")
	info = appendString(info, idWritingApp, "sotto")
	info = appendFloat(info, idDuration, 0)
	b = appendBytes(b, idInfo, info)
	m.durationAt = int64(len(b)) - 8

	m.tracks = int64(len(b))
	video := appendUint(nil, idPixelWidth, uint64(cfg.Width))
	video = appendUint(video, idPixelHeight, uint64(cfg.Height))
	entry := appendUint(nil, idTrackNumber, 1)
	entry = appendUint(entry, idTrackUID, 1)
	entry = appendUint(entry, idTrackType, 1)
	entry = appendUint(entry, idFlagLacing, 0)
	entry = appendString(entry, idCodecID, codec)
	if len(cfg.Private) > 0 {
		entry = appendBytes(entry, idCodecPrivate, cfg.Private)
	}
	entry = appendBytes(entry, idVideo, video)
	b = appendBytes(b, idTracks, appendBytes(nil, idTrackEntry, entry))
	if err := m.out.append(b); err != nil {
		return nil, err
	}
	return m, nil
}

// appendVoid writes n bytes that readers pass over, 9 at least.
func appendVoid(dst []byte, n int) []byte {
	dst = appendSize8(appendID(dst, idVoid), uint64(n-9))
	return append(dst, make([]byte, n-9)...)
}

// Written returns the bytes of the file so far.
func (m *Matroska) Written() int64 { return m.out.off }

// Duration returns the time from the file's start to the end of its last picture, in nanoseconds.
func (m *Matroska) Duration() int64 {
	if !m.any {
		return 0
	}
	return (m.last + m.step) * 1e6
}

// Write adds a picture that is to be shown at the given time since the start of the file, in nanoseconds. Times do not go back:
// one that would is set right. After an error the pictures of the cluster that could not be written are missing, and the next
// one has to be a key frame.
func (m *Matroska) Write(at int64, key bool, picture []byte) error {
	if m.closed {
		return nil
	}
	if len(picture) > maxPicture {
		return fmt.Errorf("%w: a picture of %d bytes", ErrTooLarge, len(picture))
	}
	ms := max(0, (at+5e5)/1e6)
	if m.any {
		ms = max(ms, m.last+1)
	}
	if len(m.cluster) > 0 && (key || ms-m.base >= clusterSpan || len(m.cluster) >= clusterSize) {
		if err := m.Flush(); err != nil {
			return err
		}
	}
	if len(m.cluster) == 0 {
		m.base, m.keyed = ms, key
		m.cluster = appendUint(m.cluster, idTimestamp, uint64(ms))
	}
	if m.any {
		m.step = min(ms-m.last, clusterSpan)
	}
	m.last, m.any = ms, true

	m.cluster = appendSize(appendID(m.cluster, idSimpleBlock), uint64(4+len(picture)))
	m.cluster = append(m.cluster, 0x81) // track 1
	m.cluster = binary.BigEndian.AppendUint16(m.cluster, uint16(ms-m.base))
	flags := byte(0)
	if key {
		flags = 0x80
	}
	m.cluster = append(append(m.cluster, flags), picture...)
	return nil
}

// Flush writes the cluster at hand.
func (m *Matroska) Flush() error {
	if len(m.cluster) == 0 || m.closed {
		return nil
	}
	b := appendSize(appendID(nil, idCluster), uint64(len(m.cluster)))
	b = append(b, m.cluster...)
	m.cluster = m.cluster[:0]
	place := m.out.off - m.segment
	if err := m.out.append(b); err != nil {
		return err
	}
	if m.keyed {
		m.cue(cue{at: m.base, place: place})
	}
	m.settled = m.last + m.step
	return m.setDuration()
}

func (m *Matroska) setDuration() error {
	return m.out.patch(binary.BigEndian.AppendUint64(nil, math.Float64bits(float64(m.settled))), m.durationAt)
}

// cue keeps the place of a cluster, and every other one only when there are too many.
func (m *Matroska) cue(c cue) {
	if n := len(m.cues); n > 0 && c.at-m.cues[n-1].at < m.spacing {
		return
	}
	m.cues = append(m.cues, c)
	if len(m.cues) < maxCues {
		return
	}
	kept := m.cues[:0]
	for i := 0; i < len(m.cues); i += 2 {
		kept = append(kept, m.cues[i])
	}
	m.cues = kept
	m.spacing = max(2*m.spacing, 2*(kept[len(kept)-1].at-kept[0].at)/maxCues)
}

// Close writes what is left, the index, and the sizes that were not known.
func (m *Matroska) Close() error {
	if m.closed {
		return nil
	}
	if err := m.Flush(); err != nil {
		return err
	}
	m.closed = true
	cues := int64(0)
	if len(m.cues) > 0 {
		var points []byte
		for _, c := range m.cues {
			where := appendUint(nil, idCueTrack, 1)
			where = appendUint(where, idCueCluster, uint64(c.place))
			point := appendUint(nil, idCueTime, uint64(c.at))
			point = appendBytes(point, idCueTrackPosition, where)
			points = appendBytes(points, idCuePoint, point)
		}
		cues = m.out.off
		if err := m.out.append(appendBytes(nil, idCues, points)); err != nil {
			return err
		}
	}
	var entries []byte
	for _, e := range []struct {
		id    uint32
		place int64
	}{{idInfo, m.info}, {idTracks, m.tracks}, {idCues, cues}} {
		if e.place == 0 {
			continue
		}
		entry := appendBytes(nil, idSeekID, appendID(nil, e.id))
		entry = appendUint8(entry, idSeekPosition, uint64(e.place-m.segment))
		entries = appendBytes(entries, idSeek, entry)
	}
	head := appendBytes(nil, idSeekHead, entries)
	if err := m.out.patch(appendVoid(head, seekRoom-len(head)), m.seek); err != nil {
		return err
	}
	return m.out.patch(appendSize8(nil, uint64(m.out.off-m.segment)), m.segment-8)
}
