package target

import (
	"context"
	"errors"

	"github.com/pion/webrtc/v4"

	"github.com/sotto-edge/sotto/bench/internal/sink"
)

// pair is a seat at a server that wants a connection for what is published and another for what is received.
type pair struct {
	cfg     SeatConfig
	signal  signaling
	out, in *connection
	sound   *outlet
	picture *outlet
}

// signaling is what differs between such servers.
type signaling interface {
	// publish sends an offer and returns the answer.
	publish(ctx context.Context, offer string, tracks int) (string, error)
	// receive returns the offer of everything that others publish, and how many streams that is; answer takes the answer to it.
	receive(ctx context.Context) (offer string, streams int, err error)
	answer(ctx context.Context, answer string) error
	close() error
}

func newPair(ctx context.Context, cfg SeatConfig, signal signaling) (_ *pair, err error) {
	p := &pair{cfg: cfg, signal: signal}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if cfg.Publish.Simulcast {
		return nil, errors.New("bench: the peers are sent one layer")
	}
	if cfg.Publish.None() {
		return p, nil
	}
	if p.out, err = connect(cfg); err != nil {
		return nil, err
	}
	tracks := 0
	if cfg.Publish.Sound {
		tracks++
		p.sound, err = p.out.publish(cfg.Name, webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2})
		if err != nil {
			return nil, err
		}
	}
	if cfg.Publish.Pictures {
		tracks++
		p.picture, err = p.out.publish(cfg.Name, webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000})
		if err != nil {
			return nil, err
		}
	}
	offer, err := p.out.offer()
	if err != nil {
		return nil, err
	}
	answer, err := signal.publish(ctx, offer, tracks)
	if err != nil {
		return nil, err
	}
	return p, p.out.answered(answer)
}

// Connected implements Seat.
func (p *pair) Connected(ctx context.Context) error {
	if p.out == nil {
		return nil
	}
	return p.out.await(ctx)
}

// Sound implements Seat.
func (p *pair) Sound() Outlet {
	if p.sound == nil {
		return nil
	}
	return p.sound
}

// Pictures implements Seat.
func (p *pair) Pictures() Outlet {
	if p.picture == nil {
		return nil
	}
	return p.picture
}

// Receive implements Seat.
func (p *pair) Receive(ctx context.Context) (streams int, err error) {
	if p.in != nil {
		return 0, errors.New("bench: this seat receives already")
	}
	if p.in, err = connect(p.cfg); err != nil {
		return 0, err
	}
	offer, streams, err := p.signal.receive(ctx)
	if err != nil {
		return 0, err
	}
	answer, err := p.in.answer(offer)
	if err != nil {
		return 0, err
	}
	return streams, p.signal.answer(ctx, answer)
}

// Sending implements Seat.
func (p *pair) Sending() *sink.Sink {
	if p.out == nil {
		return nil
	}
	return p.out.sink
}

// Receiving implements Seat.
func (p *pair) Receiving() *sink.Sink {
	if p.in == nil {
		return nil
	}
	return p.in.sink
}

// WriteRTCP implements Seat.
func (p *pair) WriteRTCP(b []byte) error { return p.in.writeRTCP(b) }

// Close implements Seat.
func (p *pair) Close() error {
	var errs []error
	for _, c := range []*connection{p.in, p.out} {
		if c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(append(errs, p.signal.close())...)
}
