package record

import (
	"github.com/sotto-edge/sotto/internal/mux"
	"github.com/sotto-edge/sotto/internal/rtp"
)

// What is held back until it is clear whether payloads are what the codec writes.
const (
	judgeSounds   = 25 // packets: half a second
	judgePictures = 8
	judgePackets  = 1024
	judgeBytes    = 2 << 20

	// An encoder keeps to a few configurations; ciphertext shows all thirty-two.
	maxConfigurations = 8

	// maxDoubtful is how many pictures or sounds in a row, good ones subtracted, make what was readable opaque.
	maxDoubtful = 10
)

// judge finds out from the first packets whether a track can be read. A meeting that is end-to-end encrypted says so, and is not
// judged: ciphertext that leaves the first byte of Opus alone looks like Opus.
type judge struct {
	held  []packet
	bytes int

	good, bad int
	configs   uint32 // of Opus, a bit each
	last      packet
	have      bool
	dep       *mux.Depacketizer
}

func newJudge(c rtp.Codec) *judge {
	j := new(judge)
	j.dep = mux.NewDepacketizer(c, func(p *mux.Picture) {
		if p.Doubtful {
			j.bad++
		} else {
			j.good++
		}
	})
	return j
}

// take looks at a packet and keeps it. It is true when enough was seen.
func (j *judge) take(p *packet) bool {
	held := *p
	held.data = append([]byte(nil), p.data...)
	j.held = append(j.held, held)
	j.bytes += len(p.data)
	if j.dep != nil {
		malformed := j.dep.Malformed
		j.dep.Push(p.number, p.ts, p.marker, p.payload())
		j.bad += int(j.dep.Malformed - malformed)
		return j.good+j.bad >= judgePictures || j.full() && j.good+j.bad > 0
	}
	j.sound(p)
	return j.good+j.bad >= judgeSounds || j.full()
}

// waiting says that nothing can be judged before the next key frame.
func (j *judge) waiting() bool { return j.dep != nil && j.dep.Waiting() }

// full says that no more can be held back.
func (j *judge) full() bool { return len(j.held) >= judgePackets || j.bytes >= judgeBytes }

// sound judges an Opus packet by its shape, and by its duration: it must not reach beyond the next one.
func (j *judge) sound(p *packet) {
	if len(p.payload()) == 0 {
		return
	}
	samples, ok := mux.OpusSamples(p.payload())
	if ok && j.have && p.number == j.last.number+1 {
		n, _ := mux.OpusSamples(j.last.payload())
		ok = int32(p.ts-j.last.ts) >= int32(n)
	}
	j.configs |= 1 << (p.payload()[0] >> 3)
	if !ok || samples == 0 {
		j.bad++
	} else {
		j.good++
	}
	j.last, j.have = j.held[len(j.held)-1], true
}

// opaque is the judgement.
func (j *judge) opaque() bool {
	n := 0
	for c := j.configs; c != 0; c &= c - 1 {
		n++
	}
	return j.bad > j.good || n > maxConfigurations
}
