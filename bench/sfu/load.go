package sfu

import (
	"errors"
	"fmt"
	"time"

	"github.com/pion/dtls/v3"

	"github.com/sotto-edge/sotto/bench/internal/sink"
)

// load is what is put on a server.
type load struct {
	scenario   string
	rooms      int
	publishers int  // in each room
	receivers  int  // in each room, besides
	everybody  bool // publishers receive from each other
	bitrate    int  // of each one's pictures; 0: none
	fps        int
	audio      bool
	paced      bool
	simulcast  bool          // pictures come in three layers, of which the bitrate is the largest
	lines      bool          // each receiver is behind a line of its own, which changes
	idle       bool          // nothing is sent while it is measured
	apart      bool          // publishers are a process of their own
	aim        float64       // share of a core that the server is to be loaded with, by as large pictures as it takes; 0: as they are
	joining    int           // at once
	over       time.Duration // receivers join at even distances over this time; 0: one after the other
	duration   time.Duration
	warmup     time.Duration
	srtp       string
}

// scenarios are the loads that have names. What a flag says goes before them.
var scenarios = map[string]load{
	"fan":       {rooms: 1, publishers: 1, receivers: 50, bitrate: 1_000_000},
	"fan-4m":    {rooms: 1, publishers: 1, receivers: 20, bitrate: 4_000_000},
	"fan-8m":    {rooms: 1, publishers: 1, receivers: 50, bitrate: 8_000_000},
	"meeting":   {rooms: 1, publishers: 10, everybody: true, bitrate: 1_000_000},
	"rooms":     {rooms: 8, publishers: 4, everybody: true, bitrate: 500_000},
	"simulcast": {rooms: 1, publishers: 1, receivers: len(lines), bitrate: 1_500_000, paced: true, simulcast: true, lines: true, duration: time.Minute},
	"idle":      {rooms: 1, publishers: 1, receivers: 100, bitrate: 1_000_000, idle: true},
	"storm":     {rooms: 1, publishers: 1, receivers: 60, bitrate: 500_000, over: 6 * time.Second},
	"large":     {rooms: 1, publishers: 1, receivers: 500, bitrate: 500_000, apart: true, joining: 8},
	"residence": {rooms: 1, publishers: 10, receivers: 40, bitrate: 1_000_000, paced: true, aim: 0.5},
}

// maxPeople bounds a room here; the server is told of it.
const maxPeople = 2000

// sampled is how many packets go by for one that is opened.
func (l load) sampled() uint16 {
	if l.lines {
		return 1 // every picture counts
	}
	return sink.SampleEvery
}

// layers is how many a picture comes in.
func (l load) layers() int {
	if l.simulcast {
		return len(layerShare)
	}
	return 1
}

// layerShare is by what the bitrate is divided for a layer.
var layerShare = [...]int{10, 3, 1}

// layer returns a layer's bitrate, of pictures with that in all.
func (l load) layer(bitrate, n int) int {
	if l.simulcast {
		return bitrate / layerShare[n]
	}
	return bitrate
}

// people is how many there are in one room.
func (l load) people() int { return l.publishers + l.receivers }

// legs is how many receive, in all rooms.
func (l load) legs() int {
	if l.everybody {
		return l.rooms * l.people()
	}
	return l.rooms * l.receivers
}

// fan is how many copies of each packet there should be.
func (l load) fan() int {
	if l.everybody {
		return l.people() - 1
	}
	return l.receivers
}

func (l load) validate() error {
	switch {
	case l.rooms < 1 || l.publishers < 1 || l.receivers < 0 || l.fan() < 1 || l.people() > maxPeople:
		return fmt.Errorf("one publisher and one receiver at least, %d people in a room at most", maxPeople)
	case l.bitrate < 0 || l.bitrate > 0 && (l.fps < 1 || l.fps > 240):
		return errors.New("pictures: 1 to 240 a second")
	case l.bitrate == 0 && !l.audio:
		return errors.New("neither sound nor pictures: nothing to forward")
	case l.bitrate > 0 && l.bitrate/8/l.fps < 2*stampSize:
		return fmt.Errorf("%d bit/s at %d pictures a second leaves no room for a time stamp", l.bitrate, l.fps)
	case l.duration < time.Second || l.warmup < 0 || l.joining < 1 || l.over < 0:
		return errors.New("a second at least, one joining at least")
	case l.simulcast && l.bitrate/layerShare[0]/8/l.fps < 2*stampSize:
		return errors.New("the lowest layer leaves no room for a time stamp")
	case l.apart && (l.everybody || l.rooms > 1):
		return errors.New("publishers of a process of their own are in one room, and do not receive")
	}
	return nil
}

// profile returns what -srtp stands for.
func (l load) profile() dtls.SRTPProtectionProfile {
	if l.srtp == "cm" {
		return dtls.SRTP_AES128_CM_HMAC_SHA1_80
	}
	return dtls.SRTP_AEAD_AES_128_GCM
}

// cut returns into how many packets a picture goes, and how large each is.
func cut(bitrate, fps int) (packets, size int) {
	size = bitrate / 8 / fps
	packets = (size + maxPayload - 1) / maxPayload
	return packets, max(size/packets, stampSize)
}

// rate returns how many packets all publishers should send in a second.
func (l load) rate() float64 {
	each := 0.0
	if l.audio {
		each += float64(time.Second / audioEvery)
	}
	if l.bitrate > 0 {
		for n := range l.layers() {
			packets, _ := cut(l.layer(l.bitrate, n), l.fps)
			each += float64(packets * l.fps)
		}
	}
	return each * float64(l.publishers*l.rooms)
}

// String says it in words.
func (l load) String() string {
	media := "sound"
	if l.bitrate > 0 {
		media = fmt.Sprintf("pictures of %.3g Mbit/s at %d a second", float64(l.bitrate)/1e6, l.fps)
		if l.simulcast {
			media += fmt.Sprintf(" in %d layers", l.layers())
		}
		if l.audio {
			media += " and sound"
		}
	}
	where := ""
	if l.rooms > 1 {
		where = fmt.Sprintf(" in each of %d rooms", l.rooms)
	}
	switch {
	case l.everybody && l.receivers == 0:
		return fmt.Sprintf("%d people%s send %s to each other", l.publishers, where, media)
	case l.everybody:
		return fmt.Sprintf("%d people%s send %s to each other and to %d more", l.publishers, where, media, l.receivers)
	case l.publishers == 1:
		return fmt.Sprintf("one%s sends %s to %d%s", where, media, l.receivers, l.coming())
	}
	return fmt.Sprintf("%d%s send %s to %d%s", l.publishers, where, media, l.receivers, l.coming())
}

// coming says how the receivers come, where they do not one after the other.
func (l load) coming() string {
	if l.over == 0 {
		return ""
	}
	return fmt.Sprintf(", who join within %s, one every %s", tied(seconds(l.over.Seconds())), tied(seconds(l.over.Seconds()/float64(l.rooms*l.receivers))))
}
