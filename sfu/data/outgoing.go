package data

import (
	"slices"

	"github.com/pion/datachannel"

	"github.com/sotto-edge/sotto/internal/silence"
)

// outgoing is a channel to a member: it carries what another one sends on a channel of its own. It is guarded by the member's lock.
type outgoing struct {
	of     *incoming
	dc     *datachannel.DataChannel // nil before it is opened; the writer's
	stream uint16
	queue  []message
	bytes  int
	ending bool // nothing comes any more: it is closed when what waits is sent
	closed bool // nothing is sent any more
	shut   bool // the writer is done with it; it stays known while its sender's channel lives, so that none is opened for that anew
}

// push queues a message. When there is no room for one that must not be lost, it returns a channel that is closed when there is more.
func (m *Member) push(c *incoming, msg message) <-chan struct{} {
	cfg := &m.hub.cfg
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.outgoing[c]
	if o == nil {
		stream, ok := m.stream()
		if !ok {
			m.hub.counters.notOpened.Add(1)
			return nil
		}
		o = &outgoing{of: c, stream: stream}
		m.outgoing[c] = o
		m.turn = append(m.turn, o)
	}
	n := len(msg.b)
	switch {
	case o.closed || o.ending:
		m.hub.counters.overrun.Add(1)
		return nil
	case int64(n) > m.takes.Load():
		m.hub.counters.oversized.Add(1)
		if !c.lossy() {
			m.drop(o)
			m.told(Closed{Member: m.id, From: c.from.id, Label: c.label, Reason: TooBig})
		}
		return nil
	case c.lossy():
		for len(o.queue) > 0 && o.bytes+n > cfg.LossyBytes {
			m.take(o)
			m.hub.counters.overrun.Add(1)
		}
		if m.queued+n > 4*cfg.QueueBytes {
			m.hub.counters.overrun.Add(1)
			return nil
		}
	case o.bytes > 0 && o.bytes+n > cfg.QueueBytes, m.queued+n > 4*cfg.QueueBytes:
		return m.roomier
	}
	o.queue = append(o.queue, msg)
	o.bytes += n
	m.queued += n
	m.stir()
	return nil
}

// take takes the oldest message of a channel out. The lock is held.
func (m *Member) take(o *outgoing) message {
	msg := o.queue[0]
	o.queue[0] = message{}
	if o.queue = o.queue[1:]; len(o.queue) == 0 {
		o.queue = nil
	}
	o.bytes -= len(msg.b)
	m.queued -= len(msg.b)
	return msg
}

// drop ends a channel at once. The lock is held.
func (m *Member) drop(o *outgoing) {
	m.queued -= o.bytes
	o.queue, o.bytes, o.closed = nil, 0, true
	m.makeRoom()
	m.stir()
}

// shed closes a channel whose receiver is too slow.
func (m *Member) shed(c *incoming) {
	m.mu.Lock()
	o := m.outgoing[c]
	slow := o != nil && !o.closed
	if slow {
		m.hub.counters.overrun.Add(int64(len(o.queue)))
		m.drop(o)
	}
	m.mu.Unlock()
	if slow {
		m.hub.counters.closedSlow.Add(1)
		m.told(Closed{Member: m.id, From: c.from.id, Label: c.label, Reason: Slow})
		c.from.told(Closed{Member: c.from.id, From: m.id, Label: c.label, Reason: Slow})
	}
}

// finish ends a channel when what waits has been sent.
func (m *Member) finish(c *incoming) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.outgoing[c]; o != nil {
		o.ending = true
		if o.shut {
			delete(m.outgoing, c)
		}
		m.stir()
	}
}

// stir has the writer look. It does not block, because SCTP calls it under its own lock.
func (m *Member) stir() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// write is the goroutine that sends, and the only one that opens and closes channels to the client.
func (m *Member) write() {
	defer m.cancel()
	for {
		for m.writeOne() {
			if m.ctx.Err() != nil {
				return
			}
		}
		select {
		case <-m.wake:
		case <-m.ctx.Done():
			return
		}
	}
}

// writeOne sends the next message, or does what else there is to do. It returns false when there is nothing, for now.
func (m *Member) writeOne() bool {
	m.mu.Lock()
	for i, o := range m.turn {
		full := o.dc != nil && o.dc.BufferedAmount() >= inFlight
		switch {
		case o.closed || o.ending && len(o.queue) == 0:
			m.turn = slices.Delete(m.turn, i, i+1)
			o.closed, o.shut = true, true
			if o.ending {
				delete(m.outgoing, o.of)
			}
			if o.dc == nil {
				m.streams = append(m.streams, o.stream)
			}
			m.mu.Unlock()
			if o.dc != nil {
				_ = o.dc.Close()
			}
			return true
		case len(o.queue) > 0 && !full:
			msg := m.take(o)
			m.turn = append(slices.Delete(m.turn, i, i+1), o)
			m.makeRoom()
			m.mu.Unlock()
			m.send(o, msg)
			return true
		}
	}
	m.mu.Unlock()
	return false
}

// makeRoom tells those who wait. The lock is held.
func (m *Member) makeRoom() {
	close(m.roomier)
	m.roomier = make(chan struct{})
}

// stream returns a free stream, fresh ones first. The lock is held.
func (m *Member) stream() (s uint16, ok bool) {
	if m.next <= maxStream {
		m.next += 2
		return m.next - 2, true
	}
	if len(m.streams) == 0 {
		return 0, false
	}
	s = m.streams[0]
	m.streams = m.streams[1:]
	return s, true
}

// send sends a message, and opens its channel before if need be.
func (m *Member) send(o *outgoing, msg message) {
	if o.dc == nil {
		dc, err := datachannel.Dial(m.assoc, o.stream, &datachannel.Config{
			ChannelType: o.of.kind, Priority: datachannel.ChannelPriorityNormal, ReliabilityParameter: o.of.value,
			Label: o.of.label, Protocol: protocol(o.of), LoggerFactory: silence.Logger{},
		})
		if err != nil {
			m.fail(o)
			return
		}
		dc.SetBufferedAmountLowThreshold(inFlight / 2)
		dc.OnBufferedAmountLow(m.stir)
		m.mu.Lock()
		o.dc = dc
		m.mu.Unlock()
		m.hub.work.Go(func() { m.watch(o) })
	}
	if _, err := o.dc.WriteDataChannel(msg.b, msg.text); err != nil {
		m.fail(o)
		return
	}
	m.hub.counters.messagesOut.Add(1)
	m.hub.counters.bytesOut.Add(int64(len(msg.b)))
}

// protocol names the sender, and after a slash the protocol that the sender has given, if any.
func protocol(c *incoming) string {
	if c.proto == "" {
		return c.from.id
	}
	return c.from.id + "/" + c.proto
}

func (m *Member) fail(o *outgoing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(o)
}

// watch reads a channel to the client: what comes are acknowledgements (RFC 8832 §5.2) and the end. Messages come on channels that the
// client has opened, and nowhere else.
func (m *Member) watch(o *outgoing) {
	b := make([]byte, 64)
	for {
		if _, _, err := o.dc.ReadDataChannel(b); err != nil {
			break
		}
	}
	_ = o.dc.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(o)
	m.streams = append(m.streams, o.stream)
}
