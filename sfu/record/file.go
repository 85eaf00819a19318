package record

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/sotto-edge/sotto/internal/mux"
	"github.com/sotto-edge/sotto/internal/rtp"
)

// file is one file of a track, in one format. Positions are from the file's start.
type file interface {
	// write takes the next packet.
	write(p *packet, pos int64) error
	// settle writes what is held back, if it is worth it; all says that it is.
	settle(all bool) error
	// finish ends the file, so that nothing is missing from it.
	finish() error
	written() int64
	duration() int64
}

// disk opens the files of a track when they are first written to.
type disk struct {
	dir   string
	names []string
	files []*os.File
}

// open makes a file with a name of ours. It must not be there.
func (d *disk) open(name string) (io.WriterAt, error) {
	f, err := os.OpenFile(filepath.Join(d.dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	d.names, d.files = append(d.names, name), append(d.files, f)
	return f, nil
}

// remove takes away what was opened and could not be begun.
func (d *disk) remove() {
	d.close()
	for _, n := range d.names {
		_ = os.Remove(filepath.Join(d.dir, n))
	}
	d.names = nil
}

// close closes what is open, written to the disk.
func (d *disk) close() {
	for _, f := range d.files {
		_ = f.Sync() // what it would tell, the writes have told
		_ = f.Close()
	}
	d.files = nil
}

// sound writes Opus into Ogg.
type sound struct {
	d   *disk
	ogg *mux.Ogg
}

func newSound(d *disk, name string, serial uint32) (*sound, error) {
	w, err := d.open(name)
	if err != nil {
		return nil, err
	}
	ogg, err := mux.NewOgg(w, serial, 2)
	if err != nil {
		d.remove()
		return nil, fmt.Errorf("record: %w", err)
	}
	return &sound{d: d, ogg: ogg}, nil
}

func (s *sound) write(p *packet, pos int64) error {
	return s.ogg.Write((pos*mux.OpusRate+5e8)/1e9, p.payload())
}

func (s *sound) settle(all bool) error {
	if !all {
		return nil // a page is a second
	}
	return s.ogg.Flush()
}

func (s *sound) finish() error {
	defer s.d.close()
	return s.ogg.Close()
}

func (s *sound) written() int64  { return s.ogg.Written() }
func (s *sound) duration() int64 { return s.ogg.End() * 1e9 / mux.OpusRate }

// pictures puts packets together and writes them into Matroska. The file is made with the first key frame, whose size it tells.
type pictures struct {
	d     *disk
	name  func(extension string) string
	codec rtp.Codec
	entry *FileEntry
	dep   *mux.Depacketizer
	file  *mux.Matroska

	ts       uint32 // of the packet at hand
	pos      int64  // and its position
	before   int64  // position of the last other timestamp
	shown    int64  // position of the last picture, -1: none
	doubtful int    // pictures in a row that do not read as the codec
	skipping bool   // up to the next key frame
	dropped  uint64
	err      error
	gap      func(from, to int64)
}

func newPictures(d *disk, c rtp.Codec, entry *FileEntry, name func(string) string, gap func(from, to int64)) *pictures {
	v := &pictures{d: d, name: name, codec: c, entry: entry, shown: -1, gap: gap}
	v.dep = mux.NewDepacketizer(c, v.picture)
	return v
}

func (v *pictures) write(p *packet, pos int64) error {
	v.err = nil
	if p.ts != v.ts {
		v.ts, v.before = p.ts, v.pos
	}
	v.pos = pos
	malformed := v.dep.Malformed
	v.dep.Push(p.number, p.ts, p.marker, p.payload())
	v.doubtful += int(v.dep.Malformed - malformed)
	return v.err
}

func (v *pictures) picture(p *mux.Picture) {
	if p.Doubtful {
		v.doubtful++
		v.skip()
		return
	}
	v.doubtful = max(0, v.doubtful-1)
	if v.skipping && !p.Key {
		v.skip()
		return
	}
	v.skipping = false
	if v.file == nil {
		if v.err = v.begin(p); v.err != nil {
			v.skip()
			return
		}
	}
	at := v.pos
	if p.Timestamp != v.ts { // without a marker it ends with the first packet of the next one
		at = v.before
	}
	if v.dep.Dropped != 0 || v.dropped != 0 {
		v.dep.Dropped, v.dropped = 0, 0
		if v.shown >= 0 {
			v.gap(v.shown, at)
		}
	}
	if v.err = v.file.Write(at, p.Key, p.Data); v.err != nil {
		v.skip()
		return
	}
	v.shown = at
}

// skip leaves a picture out, and with it all that may need it.
func (v *pictures) skip() {
	v.skipping = true
	v.dropped++
}

// waiting says that nothing is written before the next key frame.
func (v *pictures) waiting() bool { return v.skipping || v.dep.Waiting() }

func (v *pictures) begin(p *mux.Picture) error {
	cfg := mux.VideoConfig{Codec: v.codec, Width: p.Width, Height: p.Height, Private: p.Private}
	name := v.name(cfg.Extension())
	w, err := v.d.open(name)
	if err != nil {
		return err
	}
	m, err := mux.NewMatroska(w, cfg)
	if err != nil {
		v.d.remove()
		return fmt.Errorf("record: %w", err)
	}
	v.file = m
	v.entry.Name, v.entry.Format, v.entry.Width, v.entry.Height = name, FormatWebM, p.Width, p.Height
	if v.codec == rtp.H264 {
		v.entry.Format = FormatMatroska
	}
	return nil
}

func (v *pictures) settle(all bool) error {
	if v.file == nil || !all {
		return nil // a cluster is a second
	}
	return v.file.Flush()
}

func (v *pictures) finish() error {
	if v.file == nil {
		return nil
	}
	defer v.d.close()
	return v.file.Close()
}

func (v *pictures) written() int64 {
	if v.file == nil {
		return 0
	}
	return v.file.Written()
}

func (v *pictures) duration() int64 {
	if v.file == nil {
		return 0
	}
	return v.file.Duration()
}

// raw stores packets as they came.
type raw struct {
	d     *disk
	dump  *mux.Dump
	since int64 // position of the last settling
}

func newRaw(d *disk, name, index string, start int64) (*raw, error) {
	w, err := d.open(name)
	if err != nil {
		return nil, err
	}
	x, err := d.open(index)
	if err != nil {
		d.remove()
		return nil, err
	}
	dump, err := mux.NewDump(w, x, start)
	if err != nil {
		d.remove()
		return nil, fmt.Errorf("record: %w", err)
	}
	return &raw{d: d, dump: dump}, nil
}

func (r *raw) write(p *packet, pos int64) error { return r.dump.Write(pos, p.ts, p.key, p.data) }

func (r *raw) settle(all bool) error {
	if at := r.dump.Duration(); !all && at-r.since < 1e9 {
		return nil
	}
	r.since = r.dump.Duration()
	return r.dump.Flush()
}

func (r *raw) finish() error {
	defer r.d.close()
	return r.dump.Close()
}

func (r *raw) written() int64  { return r.dump.Written() }
func (r *raw) duration() int64 { return r.dump.Duration() }
