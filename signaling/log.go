package signaling

import (
	"github.com/sotto-edge/sotto/signaling/wire"
)

// eventLog is the events of one session, numbered from 1, of which the newest are kept so that a connection which comes back can
// be told what it missed. It is guarded by its room's lock.
type eventLog struct {
	last   int64 // seq of the newest event; 0: none yet
	kept   []wire.Body
	bytes  int
	events int // most that are kept
}

// add gives the event its number and keeps it, at the cost of the oldest.
func (l *eventLog) add(b wire.Body) int64 {
	l.last++
	l.kept = append(l.kept, b)
	l.bytes += b.Len()
	for len(l.kept) > l.events || l.bytes > queuedBytes && len(l.kept) > 1 {
		l.drop(1)
	}
	return l.last
}

// after returns the frames of all events after seq. It fails when some of them are not kept any more, or never were.
func (l *eventLog) after(seq int64) ([][]byte, bool) {
	oldest := l.last - int64(len(l.kept)) // the newest event that is not kept
	if seq < oldest || seq > l.last {
		return nil, false
	}
	frames := make([][]byte, 0, l.last-seq)
	for i, b := range l.kept[seq-oldest:] {
		frames = append(frames, b.Frame(nil, seq+1+int64(i)))
	}
	return frames, true
}

// forget drops what the client says it has seen.
func (l *eventLog) forget(seq int64) {
	oldest := l.last - int64(len(l.kept))
	if seq > oldest && seq <= l.last {
		l.drop(int(seq - oldest))
	}
}

func (l *eventLog) drop(n int) {
	for i := range n {
		l.bytes -= l.kept[i].Len()
		l.kept[i] = wire.Body{} // the array behind the slice may live on
	}
	if l.kept = l.kept[n:]; n > len(l.kept) {
		l.kept = append([]wire.Body(nil), l.kept...) // or the array behind lives on
	}
}

// replyCache is the replies to the newest requests of one session, so that a request sent again after a lost connection gets its
// reply and is not executed again. It is guarded by its room's lock.
type replyCache struct {
	frames    map[int64][]byte
	order     []replied
	bytes     int
	forgotten int64 // no id up to this one is in the cache, or was never used
}

// replied is a reply in the order of the connection: behind the event of that number.
type replied struct{ id, after int64 }

// Bounds of the replies that are kept: more requests than may be under way at once.
const (
	keptReplies    = 128
	keptReplyBytes = 256 << 10
)

// add keeps the reply to the request id, which leaves behind the event of number after.
func (c *replyCache) add(id, after int64, frame []byte) {
	if c.frames == nil {
		c.frames = map[int64][]byte{}
	}
	c.frames[id] = frame
	c.order = append(c.order, replied{id, after})
	c.bytes += len(frame)
	for len(c.order) > keptReplies || c.bytes > keptReplyBytes && len(c.order) > 1 {
		c.drop()
	}
}

// forget drops the replies that the client has: they came before an event that it says it has seen.
func (c *replyCache) forget(seq int64) {
	for len(c.order) > 0 && c.order[0].after < seq {
		c.drop()
	}
}

func (c *replyCache) drop() {
	oldest := c.order[0].id
	c.order = c.order[1:]
	c.bytes -= len(c.frames[oldest])
	delete(c.frames, oldest)
	c.forgotten = max(c.forgotten, oldest)
}

// find returns the reply of an executed request. spent says that the id is too old to tell.
func (c *replyCache) find(id int64) (frame []byte, spent bool) {
	frame = c.frames[id]
	return frame, frame == nil && id <= c.forgotten
}
