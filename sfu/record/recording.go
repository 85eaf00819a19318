package record

import (
	"log/slog"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/tap"
)

const (
	audioRing = 64 << 10 // bytes: five seconds and more of sound
	videoRing = 1 << 20  // three of a large picture

	manifestEvery = 2 * time.Second
	spaceEvery    = time.Second
	failPatience  = 10 * time.Second // writes may fail for so long before the recording is given up

	// maxTracks bounds what a participant makes who publishes and withdraws all day.
	maxTracks = 4096
)

// Keys can ask a publisher for a key frame. It must not block.
type Keys interface{ RequestKey() }

// TrackOptions describe a track that is to be recorded.
type TrackOptions struct {
	ID, Participant, Name, Source string
	Kind                          rtp.Kind
	Encrypted                     bool      // its publisher says that it is, end to end
	Epoch                         time.Time // zero of the packet clock that the ring's records are stamped by
	Keys                          Keys
}

// Recording is one recording that goes on or has ended.
type Recording struct {
	recorder *Recorder
	owner    Owner
	dir      string
	started  time.Time
	log      *slog.Logger
	finish   chan Reason
	done     chan struct{}

	mu    sync.Mutex
	added []*track // not seen by the goroutine yet
	count int
	info  Info

	// Of the goroutine.
	tracks   []*track
	senders  map[string]*sender // by participant
	manifest Manifest
	counted  int64     // bytes that are in the recorder's sum
	savedAt  time.Time // the manifest, last
	looked   time.Time // at the free space, last
	failing  time.Time // since when writes fail; zero: they do not
	gaveUp   bool
}

// sender is what is known of one participant's clock.
type sender struct {
	delta int64 // least difference between our clock and its, in nanoseconds: how its NTP times are read
	known bool
}

// Info says how a recording fares.
type Info struct {
	ID        string
	StartedAt time.Time
	Bytes     int64
	Tracks    int
	Packets   uint64 // that were taken from the rings
	Lost      uint64 // packets that were not written
}

// ID returns the recording's name, which is that of its folder.
func (r *Recording) ID() string { return r.manifest.ID }

// StartedAt returns when it began.
func (r *Recording) StartedAt() time.Time { return r.started }

// Info returns its figures.
func (r *Recording) Info() Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	info := r.info
	info.ID, info.StartedAt = r.manifest.ID, r.started
	return info
}

// Add takes a track in and returns the ring that its packets go into, or nil if there are too many. It does not block. The track
// ends with the ring's End record.
func (r *Recording) Add(o TrackOptions) *tap.Ring {
	size := audioRing
	if o.Kind == rtp.KindVideo {
		size = videoRing
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count >= maxTracks {
		return nil
	}
	ring := tap.NewRing(size)
	r.count++
	r.added = append(r.added, newTrack(r, r.count, o, ring))
	return ring
}

// Finish ends the recording when what is in the rings is written. The taps must be closed. It does not wait and may be called twice.
func (r *Recording) Finish(reason Reason) {
	select {
	case r.finish <- reason:
	default:
	}
}

// Done is closed when the recording has ended and is on disk.
func (r *Recording) Done() <-chan struct{} { return r.done }

// run writes what comes until the recording is finished.
func (r *Recording) run() {
	defer r.recorder.wg.Done()
	tick := time.NewTicker(r.recorder.cfg.Interval)
	defer tick.Stop()
	for {
		select {
		case reason := <-r.finish:
			r.pump()
			r.end(reason)
			return
		case <-tick.C:
			now := time.Now()
			r.pump()
			r.check(now)
			if now.Sub(r.savedAt) >= manifestEvery {
				r.save(now)
			}
		}
	}
}

// pump empties the rings.
func (r *Recording) pump() {
	r.mu.Lock()
	added := r.added
	r.added = nil
	r.mu.Unlock()
	for _, t := range added {
		r.tracks = append(r.tracks, t)
		r.manifest.Tracks = append(r.manifest.Tracks, &t.entry)
	}
	for _, t := range r.tracks {
		t.pump()
	}
	r.account()
}

// account adds up bytes and losses.
func (r *Recording) account() {
	var bytes int64
	var packets, lost uint64
	for _, t := range r.tracks {
		bytes += t.written()
		packets += t.entry.Packets
		lost += t.entry.Lost + t.entry.Overflow + t.entry.NotWritten
	}
	r.recorder.used.Add(bytes - r.counted)
	r.counted = bytes
	r.mu.Lock()
	r.info.Bytes, r.info.Tracks, r.info.Packets, r.info.Lost = bytes, len(r.tracks), packets, lost
	r.mu.Unlock()
}

// check sees that there is room, and that writing works.
func (r *Recording) check(now time.Time) {
	failing := false
	for _, t := range r.tracks {
		failing = failing || t.failing()
	}
	switch {
	case !failing:
		r.failing = time.Time{}
	case r.failing.IsZero():
		r.failing = now
		r.log.Warn("record: the disk takes no data")
	case now.Sub(r.failing) > failPatience:
		r.giveUp(DiskFail)
	}
	if now.Sub(r.looked) < spaceEvery {
		return
	}
	r.looked = now
	if why, ok := r.recorder.room(); !ok {
		r.giveUp(why)
	}
}

func (r *Recording) giveUp(reason Reason) {
	if r.gaveUp {
		return
	}
	r.gaveUp = true
	r.log.Warn("record: cannot go on", slog.String("reason", string(reason)))
	if r.owner != nil {
		r.owner.RecordingFails(r, reason)
	}
}

// end closes every file and says that the recording is complete.
func (r *Recording) end(reason Reason) {
	defer close(r.done)
	for _, t := range r.tracks {
		t.close()
	}
	r.account()
	now := time.Now()
	r.manifest.State, r.manifest.Reason, r.manifest.EndedAt = StateFinished, reason, &now
	r.save(now)
	r.recorder.mu.Lock()
	delete(r.recorder.active, r)
	r.recorder.mu.Unlock()
	r.log.Info("record: ended", slog.String("reason", string(reason)), slog.Int("tracks", len(r.tracks)), slog.Int64("bytes", r.counted))
}

// save writes the manifest. One that cannot be written leaves the last one in its place.
func (r *Recording) save(now time.Time) {
	for _, t := range r.tracks {
		t.describe()
	}
	r.savedAt, r.manifest.UpdatedAt = now, now
	if err := writeManifest(r.dir, &r.manifest); err != nil {
		r.log.Warn("record: write the manifest", slog.Any("error", err))
		return
	}
	r.failing = time.Time{} // a track that failed, and has nothing to write since, does not say that it could
}

func (r *Recording) sender(participant string) *sender {
	s := r.senders[participant]
	if s == nil {
		s = new(sender)
		r.senders[participant] = s
	}
	return s
}

// reported takes a sender report: its NTP time and when it came, both in nanoseconds since 1970. The least difference is the one
// of the report that was least delayed.
func (s *sender) reported(ntp, came int64) {
	if d := came - ntp; !s.known || d < s.delta {
		s.delta, s.known = d, true
	}
}
