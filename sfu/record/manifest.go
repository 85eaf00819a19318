package record

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	manifestName    = "manifest.json"
	manifestVersion = 1

	// maxEntries bounds each list of a track: a link that loses a packet a second for a day must not fill memory.
	maxEntries = 4096
)

// State says how far a recording is.
type State string

// States.
const (
	StateRecording   State = "recording"
	StateFinished    State = "finished"
	StateInterrupted State = "interrupted"
)

// Manifest describes a recording. All times within it are seconds from StartedAt, unless they are said to be of a track: then they
// are from the track's first packet.
type Manifest struct {
	Version    int           `json:"version"`
	ID         string        `json:"id"`
	Conference string        `json:"conference"`
	By         string        `json:"by,omitempty"`
	Encrypted  bool          `json:"encrypted"`
	State      State         `json:"state"`
	Reason     Reason        `json:"reason,omitempty"`
	StartedAt  time.Time     `json:"started_at"`
	UpdatedAt  time.Time     `json:"updated_at"`
	EndedAt    *time.Time    `json:"ended_at,omitempty"`
	Tracks     []*TrackEntry `json:"tracks"`
}

// TrackEntry describes one publication.
type TrackEntry struct {
	Number      int    `json:"number"`
	ID          string `json:"id"`
	Participant string `json:"participant"`
	Name        string `json:"name,omitempty"`
	Source      string `json:"source"`
	Kind        string `json:"kind"`
	// StartedAt is when the first packet came, OffsetSeconds where its media lies on the recording's time line, which Sync says
	// the source of: SyncReports or SyncArrival.
	StartedAt     *time.Time `json:"started_at,omitempty"`
	OffsetSeconds float64    `json:"offset_seconds"`
	Sync          string     `json:"sync,omitempty"`
	Clock         *Clock     `json:"clock,omitempty"`
	Ended         bool       `json:"ended"`

	Files  []*FileEntry `json:"files"`
	Gaps   []Gap        `json:"gaps,omitempty"`
	Mutes  []Span       `json:"mutes,omitempty"`
	Layers []LayerEntry `json:"layers,omitempty"` // simulcast: which one from when on
	// Omitted counts entries of the lists above that found no room in them.
	Omitted int `json:"omitted,omitempty"`

	Packets    uint64 `json:"packets"`
	Lost       uint64 `json:"lost"`        // that never came
	Late       uint64 `json:"late"`        // that came too late to be put in their place
	Overflow   uint64 `json:"overflow"`    // that found no room in memory, because the disk was slow
	NotWritten uint64 `json:"not_written"` // that the disk did not take
	Malformed  uint64 `json:"malformed"`   // that make no sense in the codec
}

// How tracks are put beside each other.
const (
	SyncReports = "sender-reports" // by the sender's own clock: tracks of one participant are aligned exactly
	SyncArrival = "arrival"        // by when packets came
)

// Clock maps RTP timestamps of the track to the sender's NTP clock.
type Clock struct {
	Rate           uint32  `json:"rate"`
	FirstTimestamp uint32  `json:"first_timestamp"` // RTP time of the track's first packet
	NTPSeconds     float64 `json:"ntp_seconds"`     // NTP time of it, as seconds since 1970; 0: no report came
	Reports        int     `json:"reports"`
	DriftPPM       float64 `json:"drift_ppm"` // how much faster RTP time runs than NTP time
}

// FileEntry is one file of a track. There is another one when the codec changes or what is sent is no longer readable.
type FileEntry struct {
	Name   string `json:"name"`
	Index  string `json:"index,omitempty"`
	Format string `json:"format"`
	Codec  string `json:"codec"`
	// Opaque says that payloads are encrypted, or not what the codec writes: the file holds RTP packets as they came.
	Opaque bool `json:"opaque"`
	// OffsetSeconds is where the file begins in its track.
	OffsetSeconds   float64 `json:"offset_seconds"`
	DurationSeconds float64 `json:"duration_seconds"`
	Bytes           int64   `json:"bytes"`
	Width           int     `json:"width,omitempty"` // of the first picture
	Height          int     `json:"height,omitempty"`
}

// Formats of files.
const (
	FormatOgg      = "ogg"
	FormatWebM     = "webm"
	FormatMatroska = "matroska"
	FormatRTPDump  = "rtpdump"
)

// Span is a stretch of a track.
type Span struct {
	AtSeconds float64 `json:"at_seconds"`
	Seconds   float64 `json:"seconds"`
}

// Gap is a stretch of a track that is missing from its file.
type Gap struct {
	Span
	Packets uint64 `json:"packets,omitempty"`
	Reason  string `json:"reason"`
}

// Reasons of gaps.
const (
	GapLoss     = "loss"     // packets did not arrive; pictures that need them are left out up to the next key frame
	GapOverflow = "overflow" // the disk was too slow
	GapDisk     = "disk"     // the disk was full or failed
	// GapUnreadable: what was sent stopped making sense in the codec. What follows is in a file of raw packets.
	GapUnreadable = "unreadable"
)

// LayerEntry says which simulcast layer is in the file from a moment on.
type LayerEntry struct {
	AtSeconds float64 `json:"at_seconds"`
	Layer     int     `json:"layer"`
}

// ReadManifest reads the manifest of the recording in a folder.
func ReadManifest(dir string) (Manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return Manifest{}, fmt.Errorf("record: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return Manifest{}, fmt.Errorf("record: manifest: %w", err)
	}
	return m, nil
}

// writeManifest replaces the manifest in one step: a reader finds the old one or the new one, whole.
func writeManifest(dir string, m *Manifest) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("record: manifest: %w", err)
	}
	path := filepath.Join(dir, manifestName)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// put appends to a list of bounded length and counts what does not fit.
func put[T any](list *[]T, v T, omitted *int) {
	if len(*list) >= maxEntries {
		*omitted++
		return
	}
	*list = append(*list, v)
}

func seconds(ns int64) float64 { return float64(ns/1000) / 1e6 }
