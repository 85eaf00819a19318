package client_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"github.com/sotto-edge/sotto/client"
	irtp "github.com/sotto-edge/sotto/internal/rtp"
	"github.com/sotto-edge/sotto/sfu/layer/layertest"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// pictureEvery is the time between the pictures of an encoder.
const pictureEvery = 20 * time.Millisecond

// encoder publishes pictures of several layers, of which nothing can be read behind what end-to-end encryption leaves clear.
type encoder struct {
	track *client.LocalTrack

	mu     sync.Mutex
	frames []*layertest.Frame // of all streams
	pubs   []*layertest.Publisher
	keys   []bool // asked for, by stream
	asked  int
}

// encode starts an encoder on a track. Its streams are of the kinds of pubs.
func encode(t *testing.T, track *client.LocalTrack, pubs []layertest.Publisher) *encoder {
	t.Helper()
	e := &encoder{track: track, keys: make([]bool, len(pubs))}
	for i, p := range pubs {
		p.Stream, p.Noise = i, 60
		e.pubs = append(e.pubs, layertest.New(p, 7, &e.frames))
	}
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { e.run(ctx, t) })
	work.Go(func() { e.listen(ctx) })
	t.Cleanup(func() {
		stop()
		work.Wait()
	})
	return e
}

func (e *encoder) run(ctx context.Context, t *testing.T) {
	tick := time.NewTicker(pictureEvery)
	defer tick.Stop()
	for n := uint32(0); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if e.track.Layers() == 0 {
			n--
			continue
		}
		for i, p := range e.pubs {
			e.mu.Lock()
			packets := p.Next(e.keys[i])
			e.keys[i] = false
			e.mu.Unlock()
			for _, pk := range packets {
				out := &rtp.Packet{Payload: pk.Payload, Header: rtp.Header{
					Version: 2, Marker: pk.Marker, SequenceNumber: uint16(pk.Ext), Timestamp: uint32(i+1)<<30 + n*uint32(pictureEvery/time.Microsecond*9/100),
				}}
				if pk.DD != nil {
					if err := out.SetExtension(e.track.ExtensionID(irtp.URIDependencyDescriptor), pk.DD); err != nil {
						t.Error(err)
						return
					}
				}
				if err := e.track.WriteLayer(i, out); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
					t.Logf("write: %v", err)
				}
			}
		}
	}
}

// listen notes which streams are to have a key frame.
func (e *encoder) listen(ctx context.Context) {
	for {
		var p rtcp.Packet
		select {
		case <-ctx.Done():
			return
		case p = <-e.track.Feedback():
		}
		pli, ok := p.(*rtcp.PictureLossIndication)
		if !ok {
			continue
		}
		if i := slices.Index(e.track.SSRCs(), pli.MediaSSRC); i >= 0 {
			e.mu.Lock()
			e.keys[i] = true
			e.asked++
			e.mu.Unlock()
		}
	}
}

// decoder is the strict receiver behind a Stream.
type decoder struct {
	codec irtp.Codec
	from  *encoder
	dd    uint8 // id of the descriptor

	mu      sync.Mutex
	recv    *layertest.Receiver
	got     []client.Packet
	helped  int // key frames it had to ask for
	longest int // pictures that went by without one that could be decoded
}

// decode reads a stream until the test ends.
func decode(t *testing.T, e *encoder, c irtp.Codec, s *client.Stream) *decoder {
	t.Helper()
	d := &decoder{codec: c, from: e, dd: e.track.ExtensionID(irtp.URIDependencyDescriptor), recv: layertest.NewReceiver(t, &e.frames)}
	d.recv.Late = true
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case p, ok := <-s.Packets():
				if !ok {
					return
				}
				d.take(t, s, p)
			}
		}
	})
	t.Cleanup(func() {
		stop()
		work.Wait()
	})
	return d
}

const (
	// freeze is how many pictures may go by without one that can be decoded: 300 ms of them.
	freeze = int(300 * time.Millisecond / pictureEvery)
	// stall is after how many a decoder asks for a key frame: much longer than any repair takes.
	stall = 50
)

func (d *decoder) take(t *testing.T, s *client.Stream, p client.Packet) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, p)
	if len(p.Payload) == 0 {
		return // in the place of one that was left out
	}
	d.from.mu.Lock() // it holds the list of frames
	defer d.from.mu.Unlock()
	before := len(d.recv.Order)
	d.recv.Take(layertest.Got{TS: int(p.Timestamp), Marker: p.Marker, Payload: p.Payload, DD: p.GetExtension(d.dd), Codec: d.codec})
	if n := len(d.recv.Order); n == before || before == 0 {
		return
	}
	gap := d.from.frames[d.recv.Order[len(d.recv.Order)-1]].Picture - d.from.frames[d.recv.Order[before-1]].Picture
	if d.longest = max(d.longest, gap); gap > stall {
		d.helped++
		if err := s.RequestKeyFrame(); err != nil {
			t.Log(err)
		}
	}
}

// layer returns which stream, and which spatial layer of it, the last pictures decoded were of: the highest of the last few frames.
func (d *decoder) layer() (stream, spatial int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.from.mu.Lock()
	defer d.from.mu.Unlock()
	for _, uid := range d.recv.Order[max(0, len(d.recv.Order)-6):] {
		f := d.from.frames[uid]
		stream, spatial = f.Stream, max(spatial, int(f.SID))
	}
	return stream, spatial
}

func (d *decoder) decoded() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.recv.Order)
}

// lossyBy loses so many of a hundred media packets, at random, retransmissions like others.
func lossyBy(percent int, seed uint64) func(b []byte) bool {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, seed))
	return func(b []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		return header(b) != nil && r.IntN(100) < percent
	}
}

// Layers are switched although nothing can be read of the payload behind what end-to-end encryption leaves clear: the descriptors of
// VP8 (and whether it is a key frame) and VP9, and of other codecs nothing but the dependency descriptor. Packets are lost on both
// ways. Two receivers want something else all the time, and decode what they get by the book. Row C1.
func TestOpaqueLayers(t *testing.T) {
	t.Parallel()
	vp8 := layertest.Publisher{Codec: irtp.VP8, Temporal: 3}
	h264 := layertest.Publisher{Codec: irtp.H264, Temporal: 3, Descriptor: true, Opaque: true}
	av1 := layertest.Publisher{Codec: irtp.AV1, Spatial: 3, Temporal: 3, KSVC: true, Descriptor: true, Opaque: true}
	full := av1
	full.KSVC = false
	for name, pubs := range map[string][]layertest.Publisher{
		"vp8 in three streams":  {vp8, vp8, vp8},
		"h264 in three streams": {h264, h264, h264},
		"vp9 L3T3_KEY":          {{Codec: irtp.VP9, Spatial: 3, Temporal: 3, KSVC: true, Flexible: true}},
		"vp9 L3T3":              {{Codec: irtp.VP9, Spatial: 3, Temporal: 3}},
		"av1 L3T3_KEY":          {av1},
		"av1 L3T3":              {full},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "av1 L3T3_KEY" {
				t.Skip("one kind of stream is enough")
			}
			t.Parallel()
			m := newMeeting(t)
			c := pubs[0].Codec
			// Lines become lossy when both have begun: how a stream begins is not what is tried here.
			var begun atomic.Int32
			lossy := func(seed uint64) func([]byte) bool {
				loses := lossyBy(1, seed)
				return func(b []byte) bool { return begun.Load() == 2 && loses(b) }
			}
			ann := m.join("Ann", with(publish(client.Publication{Source: wire.Camera, Codec: c.String(), Simulcast: len(pubs) > 1}), socket(t, nil, lossy(1))))
			track := ann.Local(wire.Camera)
			e := encode(t, track, pubs)
			sizes := [][2]int{{320, 180}, {640, 360}, {1280, 720}}
			var work sync.WaitGroup
			for i, order := range [][]int{{2, 0, 1, 0, 2, 1}, {0, 2, 0, 2, 1, 0}} {
				bob := m.join("Bob", with(auto, socket(t, lossy(uint64(10+i)), nil)))
				d := decode(t, e, c, bob.stream(wire.Camera))
				work.Go(func() {
					eventually(t, "the first pictures", func() bool { return d.decoded() > 10 })
					begun.Add(1)
					for _, want := range order {
						must(t, "view", func(ctx context.Context) error {
							return bob.SetViews(ctx, client.View{Track: track.ID(), Width: sizes[want][0], Height: sizes[want][1]})
						})
						eventually(t, "the layer that is due", func() bool {
							stream, spatial := d.layer()
							return max(stream, spatial) == want && d.decoded() > 10
						})
						more := d.decoded() + 30
						eventually(t, "more of it", func() bool { return d.decoded() > more })
					}
					d.judge(t)
				})
			}
			work.Wait()
			e.mu.Lock()
			defer e.mu.Unlock()
			t.Logf("%d key frames asked for", e.asked)
		})
	}
}

// judge sees that what has come goes on forward, and could be decoded.
func (d *decoder) judge(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.from.mu.Lock()
	defer d.from.mu.Unlock()
	packets := slices.Clone(d.got)
	slices.SortStableFunc(packets, func(a, b client.Packet) int { return int(int16(a.SequenceNumber - b.SequenceNumber)) })
	lost, twice := 0, 0
	for i := 1; i < len(packets); i++ {
		p, before := packets[i], packets[i-1]
		gap := int(p.SequenceNumber-before.SequenceNumber) - 1
		lost += gap
		switch ahead := int32(p.Timestamp - before.Timestamp); {
		case gap < 0:
			t.Errorf("number %d came twice", p.SequenceNumber)
		case ahead < 0:
			t.Errorf("packet %d: the timestamp goes back by %d", p.SequenceNumber, -ahead)
		case ahead == 0 && before.Marker && gap == 0 && len(p.Payload) > 0:
			twice++
		}
	}
	if twice > 2 { // a leg that goes up to another spatial layer in the middle of a picture has marked its end before
		t.Errorf("%d pictures go on after their marker", twice)
	}
	waiting, first := d.recv.Waiting()
	t.Logf("%d packets, %d lost for good; %d frames decoded, %d in vain, %d waiting, longest gap %d pictures, asked %d times", len(packets), lost,
		len(d.recv.Order), d.recv.GivenUp, waiting, d.longest, d.helped)
	if d.longest > freeze || d.helped > 0 {
		t.Errorf("nothing to decode for %d pictures, a key frame had to be asked for %d times", d.longest, d.helped)
	}
	if n := waiting + d.recv.GivenUp; n > len(d.recv.Order)/50 {
		t.Errorf("%d of %d frames could not be decoded; one that waits is %s", n, len(d.recv.Order)+n, first)
	}
}
