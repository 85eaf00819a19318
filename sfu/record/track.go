package record

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/sotto-edge/sotto/internal/mux"
	"github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/tap"
)

// keyEvery is how often a key frame is asked for at most.
const keyEvery = int64(500e6)

// track writes one publication.
type track struct {
	rec   *Recording
	opts  TrackOptions
	ring  *tap.Ring
	entry TrackEntry
	log   *slog.Logger

	order reorder
	line  timeline
	codec rtp.Codec // of the file at hand
	judge *judge    // not nil: what the file at hand will be is not clear yet
	file  file      // nil: none, or not one yet
	d     disk
	fe    *FileEntry
	begin int64 // position where the file at hand begins
	past  int64 // bytes of the files before

	layer    int
	doubtful int // sounds that are no Opus
	muted    bool
	mutedAt  int64 // packet clock
	unmuted  bool
	overflow uint64
	keyAt    int64
	end      int64  // position behind the last packet of sound
	unsure   uint64 // packets that may still be lost with what is held back
	size     int64  // what was written when that was last nothing
	failedAt int64  // position from which the disk took nothing, -1: it does
	ended    bool
}

func newTrack(r *Recording, number int, o TrackOptions, ring *tap.Ring) *track {
	rate := rtp.VP8.ClockRate()
	kind := "video"
	if o.Kind == rtp.KindAudio {
		rate, kind = rtp.Opus.ClockRate(), "audio"
	}
	return &track{
		rec: r, opts: o, ring: ring, log: r.log.With(slog.Int("track", number)),
		entry: TrackEntry{
			Number: number, ID: o.ID, Participant: o.Participant, Name: o.Name, Source: o.Source, Kind: kind, Files: []*FileEntry{},
		},
		line: timeline{rate: int64(rate)}, d: disk{dir: r.dir}, layer: -1, failedAt: -1,
	}
}

// pump takes what is in the ring.
func (t *track) pump() {
	if t.ended {
		return
	}
	var rec tap.Record
	for t.ring.Take(&rec) {
		t.overflow += uint64(rec.Lost)
		t.entry.Overflow += uint64(rec.Lost)
		switch rec.Kind {
		case tap.Packet:
			t.packet(&rec)
		case tap.Report:
			ntp := unixNano(rec.NTP)
			t.rec.sender(t.opts.Participant).reported(ntp, t.wall(rec.At).UnixNano())
			t.line.reported(rec.Stream, ntp, uint32(rec.Sequence))
		case tap.Muted:
			t.order.flush(t.ordered)
			t.muted, t.mutedAt = true, rec.At
			if t.file != nil { // it may be long before there is more
				t.wrote(t.file.settle(true))
			}
		case tap.Unmuted:
			t.unmute(rec.At)
		case tap.End:
			t.unmute(rec.At)
			t.close()
			return
		}
	}
	if t.file != nil {
		t.wrote(t.file.settle(false))
	}
}

// wall returns the time of day of a moment on the packet clock.
func (t *track) wall(at int64) time.Time { return t.opts.Epoch.Add(time.Duration(at)) }

// unixNano converts an NTP timestamp (RFC 5905 §6) to nanoseconds since 1970.
func unixNano(ntp uint64) int64 {
	const from1900 = 2208988800
	return (int64(ntp>>32)-from1900)*1e9 + int64(ntp&0xffffffff*1e9>>32)
}

func (t *track) unmute(at int64) {
	if !t.muted {
		return
	}
	t.muted, t.unmuted = false, true
	from := seconds(t.mutedAt - t.line.firstAt)
	if !t.line.started { // it was muted from its beginning
		return
	}
	put(&t.entry.Mutes, Span{AtSeconds: from, Seconds: seconds(at - t.mutedAt)}, &t.entry.Omitted)
}

func (t *track) packet(rec *tap.Record) {
	var h rtp.Header
	if !h.Parse(rec.Data) {
		t.entry.Malformed++
		return
	}
	pad := rtp.PaddingLen(rec.Data, &h)
	if pad < 0 {
		t.entry.Malformed++
		return
	}
	if !t.line.started && t.entry.StartedAt == nil {
		at := t.wall(rec.At)
		t.entry.StartedAt = &at
		t.keyAt = rec.At // the tap has asked for the first one
	}
	t.entry.Packets++
	p := packet{
		codec: rec.Codec, layer: rec.Layer, key: rec.Key, stream: rec.Stream, at: rec.At, seq: rec.Sequence,
		ts: h.Timestamp, marker: h.Marker, data: rec.Data, from: h.HeaderLen, to: len(rec.Data) - pad,
		overflow: t.overflow, unmuted: t.unmuted,
	}
	t.overflow, t.unmuted = 0, false
	t.order.push(&p, t.ordered)
	t.entry.Late = t.order.late
}

// ordered takes the packets of the track in their order.
func (t *track) ordered(p *packet) {
	p.pos = t.line.place(p)
	if !p.unmuted { // what came while muted is no loss
		t.entry.Lost += uint64(max(0, p.missing-int64(p.overflow)))
	}
	if int(p.layer) != t.layer && t.opts.Kind == rtp.KindVideo {
		t.layer = int(p.layer)
		put(&t.entry.Layers, LayerEntry{AtSeconds: seconds(p.pos), Layer: t.layer}, &t.entry.Omitted)
	}
	if (t.file != nil || t.judge != nil) && p.codec != t.codec {
		t.closeFile()
	}
	if t.file == nil && t.judge == nil {
		t.codec, t.begin = p.codec, p.pos
		if t.rec.manifest.Encrypted || t.opts.Encrypted {
			t.openFile(true)
		} else {
			t.judge = newJudge(p.codec)
		}
	}
	if t.judge != nil {
		switch {
		case t.judge.take(p):
			t.decide()
		case t.judge.full(): // no picture among all of them: the key frame is still to come
			t.judge.held, t.judge.bytes = nil, 0
			fallthrough
		case t.judge.waiting():
			t.wantKey(p.at)
		}
		return
	}
	t.write(p)
}

// decide opens the file that what was held back belongs into, and writes that.
func (t *track) decide() {
	j := t.judge
	t.judge = nil
	t.openFile(j.opaque())
	for i := range j.held {
		t.write(&j.held[i])
	}
}

// openFile begins a file. Its name is made of numbers and words of ours.
func (t *track) openFile(opaque bool) {
	t.fe = &FileEntry{Codec: t.codec.String(), Opaque: opaque, OffsetSeconds: seconds(t.begin)}
	stem := fmt.Sprintf("%03d-%s", t.entry.Number, t.entry.Kind)
	if n := len(t.entry.Files); n > 0 {
		stem += fmt.Sprintf("-%d", n+1)
	}
	t.d = disk{dir: t.rec.dir}
	var err error
	var f file
	switch {
	case opaque:
		t.fe.Name, t.fe.Index, t.fe.Format = stem+".rtp", stem+".rtp.index", FormatRTPDump
		f, err = asFile(newRaw(&t.d, t.fe.Name, t.fe.Index, t.wall(t.line.firstAt).UnixNano()+t.begin))
	case t.codec == rtp.Opus:
		t.fe.Name, t.fe.Format = stem+".ogg", FormatOgg
		f, err = asFile(newSound(&t.d, t.fe.Name, uint32(t.entry.Number)))
	default:
		f = newPictures(&t.d, t.codec, t.fe, func(ext string) string { return stem + ext }, t.pictureGap)
	}
	t.size, t.unsure = 0, 0
	if err != nil {
		t.fe = nil
		t.wrote(err)
		return
	}
	t.file = f
	t.list()
}

// list puts the file at hand into the manifest once it is there.
func (t *track) list() {
	if n := len(t.entry.Files); t.fe.Name != "" && (n == 0 || t.entry.Files[n-1] != t.fe) {
		t.entry.Files = append(t.entry.Files, t.fe)
	}
}

// asFile keeps a nil of a type from becoming an interface that is not nil.
func asFile[F file](f F, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// write puts a packet into the file at hand.
func (t *track) write(p *packet) {
	if t.file == nil { // it could not be opened; the next packet tries again
		t.entry.NotWritten++
		return
	}
	pos := max(0, p.pos-t.begin)
	t.gap(p)
	if p.to > p.from {
		t.unsure++
	}
	t.wrote(t.file.write(p, pos))
	switch f := t.file.(type) {
	case *sound:
		n, ok := mux.OpusSamples(p.payload())
		switch {
		case ok:
			t.end = p.pos + int64(n)*1e9/mux.OpusRate
			t.doubtful = max(0, t.doubtful-1)
		case p.to > p.from:
			t.entry.Malformed++
			t.doubtful++
		}
	case *pictures:
		t.list()
		t.doubtful = f.doubtful
		if f.waiting() {
			t.wantKey(p.at)
		}
	}
	if t.doubtful > maxDoubtful { // what could be read is encrypted from here on
		from := t.begin + t.file.duration()
		t.closeFile()
		put(&t.entry.Gaps, Gap{Span: Span{AtSeconds: seconds(from), Seconds: seconds(max(0, p.pos-from))}, Reason: GapUnreadable}, &t.entry.Omitted)
		t.begin, t.doubtful = p.pos, 0
		t.openFile(true)
	}
}

// gap notes what is missing before a packet of sound; of pictures it is known when the next one is shown.
func (t *track) gap(p *packet) {
	_, video := t.file.(*pictures)
	if video || p.missing == 0 && p.overflow == 0 || p.unmuted {
		if video && p.overflow > 0 {
			put(&t.entry.Gaps, Gap{Span{AtSeconds: seconds(p.pos)}, p.overflow, GapOverflow}, &t.entry.Omitted)
		}
		return
	}
	g := Gap{Span: Span{AtSeconds: seconds(t.end), Seconds: seconds(max(0, p.pos-t.end))}, Packets: uint64(p.missing), Reason: GapLoss}
	if p.overflow > 0 {
		g.Reason, g.Packets = GapOverflow, max(g.Packets, p.overflow)
	}
	put(&t.entry.Gaps, g, &t.entry.Omitted)
}

// pictureGap notes that pictures are missing between two that are shown, in positions of the file.
func (t *track) pictureGap(from, to int64) {
	put(&t.entry.Gaps, Gap{Span: Span{AtSeconds: seconds(t.begin + from), Seconds: seconds(to - from)}, Reason: GapLoss}, &t.entry.Omitted)
}

// wrote takes the outcome of a write. After a failure everything since the last success is missing, and what follows is until the
// next one.
func (t *track) wrote(err error) {
	if err != nil {
		if t.failedAt < 0 {
			t.failedAt = t.line.pos
			if t.file != nil {
				t.failedAt = min(t.failedAt, t.begin+t.file.duration())
			}
			t.log.Warn("record: write", slog.Any("error", err))
		}
		t.entry.NotWritten += t.unsure
		t.unsure = 0
		return
	}
	if t.file == nil {
		return
	}
	if n := t.file.written(); n != t.size {
		t.size, t.unsure = n, 0
		if t.failedAt >= 0 {
			put(&t.entry.Gaps, Gap{Span: Span{AtSeconds: seconds(t.failedAt), Seconds: seconds(max(0, t.line.pos-t.failedAt))}, Reason: GapDisk}, &t.entry.Omitted)
			t.failedAt = -1
		}
	}
}

// failing says that the disk took nothing last.
func (t *track) failing() bool { return t.failedAt >= 0 && !t.ended }

func (t *track) wantKey(at int64) {
	if t.opts.Keys != nil && !t.ended && at-t.keyAt >= keyEvery {
		t.keyAt = at
		t.opts.Keys.RequestKey()
	}
}

// closeFile ends the file at hand; what is held back is written first.
func (t *track) closeFile() {
	if t.judge != nil {
		t.decide()
	}
	if t.file == nil {
		return
	}
	t.wrote(t.file.finish())
	t.describeFile()
	t.past += t.file.written()
	t.file, t.fe = nil, nil
}

// close ends the track.
func (t *track) close() {
	if t.ended {
		return
	}
	t.order.flush(t.ordered)
	t.closeFile()
	t.ended, t.entry.Ended = true, true
	t.ring = nil
	t.describe()
}

func (t *track) written() int64 {
	if t.file == nil {
		return t.past
	}
	return t.past + t.file.written()
}

func (t *track) describeFile() {
	t.fe.Bytes, t.fe.DurationSeconds = t.file.written(), seconds(t.file.duration())
}

// describe brings the manifest's entry up to date.
func (t *track) describe() {
	if t.file != nil {
		t.describeFile()
	}
	if !t.line.started {
		return
	}
	arrived := t.wall(t.line.firstAt).Sub(t.rec.started)
	t.entry.Sync, t.entry.OffsetSeconds = SyncArrival, seconds(int64(arrived))
	t.entry.Clock = &Clock{Rate: uint32(t.line.rate), FirstTimestamp: t.line.firstTS, Reports: t.line.reports, DriftPPM: t.line.drift()}
	if ntp, ok := t.line.ntpAtZero(); ok {
		s := t.rec.sender(t.opts.Participant)
		t.entry.Sync, t.entry.OffsetSeconds = SyncReports, seconds(ntp+s.delta-t.rec.started.UnixNano())
		t.entry.Clock.NTPSeconds = seconds(ntp)
	}
}
