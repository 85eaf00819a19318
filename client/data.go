package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
)

const (
	// queuedData is what waits for who reads Data. The rest waits at the server, and then at the sender.
	queuedData   = 16
	maxDataBytes = 256 << 10
)

// ErrNoData is the error of who has not asked for data channels, or may have none.
var ErrNoData = errors.New("client: no data channels: Config.Data was not set and WantData not called, or the server has none for this participant")

// DataMessage is a message that somebody else has sent on a data channel.
type DataMessage struct {
	From     string // participant id
	Label    string
	Protocol string // as the sender has given it
	Text     bool
	Data     []byte
}

// DataOptions say how a data channel carries messages (RFC 8831 §6.1). The zero value is reliable and in order.
type DataOptions struct {
	Unordered bool
	// Lossy sends a message again at most Retransmits times, or with a Lifetime for that long.
	Lossy       bool
	Retransmits uint16
	Lifetime    time.Duration
	Protocol    string
}

// DataChannel carries messages to everybody else in the meeting who has data channels. Its methods may be called from any goroutine.
type DataChannel struct{ dc *webrtc.DataChannel }

// OpenData opens a data channel of that label, and returns when it is open. Others hear of it with the first message.
func (c *Client) OpenData(ctx context.Context, label string, o DataOptions) (*DataChannel, error) {
	if !c.cfg.Data && !c.wantsData.Load() || c.Limits().DataBytes == 0 {
		return nil, ErrNoData
	}
	ordered := !o.Unordered
	init := &webrtc.DataChannelInit{Ordered: &ordered, Protocol: &o.Protocol}
	if o.Lossy && o.Lifetime > 0 {
		ms := uint16(min(o.Lifetime/time.Millisecond, 1<<16-1))
		init.MaxPacketLifeTime = &ms
	} else if o.Lossy {
		init.MaxRetransmits = &o.Retransmits
	}
	dc, err := c.media.pc.CreateDataChannel(label, init)
	if err != nil {
		return nil, fmt.Errorf("client: open a data channel: %w", err)
	}
	open := make(chan struct{})
	dc.OnOpen(sync.OnceFunc(func() { close(open) }))
	select {
	case <-open:
		return &DataChannel{dc}, nil
	case <-c.done:
		return nil, c.err
	case <-ctx.Done():
		_ = dc.Close()
		return nil, fmt.Errorf("client: open a data channel: %w", ctx.Err())
	}
}

// Send sends bytes. It does not wait: Buffered says what has not left yet.
func (d *DataChannel) Send(b []byte) error {
	if err := d.dc.Send(b); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	return nil
}

// SendText sends text.
func (d *DataChannel) SendText(s string) error {
	if err := d.dc.SendText(s); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	return nil
}

// Buffered is how many bytes have not left yet: more than a few hundred thousand mean that the server, or a slow receiver of a
// reliable channel, holds them back.
func (d *DataChannel) Buffered() uint64 { return d.dc.BufferedAmount() }

// Close ends the channel, and with it those on which others receive what was sent.
func (d *DataChannel) Close() error {
	if err := d.dc.Close(); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	return nil
}

// Data delivers what others send on data channels: of one channel in its order, if it has one. Who does not read holds the senders of
// reliable channels back, until the server closes those (event wire.DataClosed). It is never closed; Done says when nothing comes any
// more.
func (c *Client) Data() <-chan DataMessage { return c.data }

// receiveData takes a channel of somebody else's messages: its protocol begins with whose they are.
func (m *media) receiveData(dc *webrtc.DataChannel) {
	from, protocol, _ := strings.Cut(dc.Protocol(), "/")
	label := dc.Label()
	dc.OnMessage(func(msg webrtc.DataChannelMessage) {
		select {
		case m.c.data <- DataMessage{From: from, Label: label, Protocol: protocol, Text: msg.IsString, Data: msg.Data}:
		case <-m.dataOver:
		}
	})
}
