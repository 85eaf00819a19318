package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// Two participants of one meeting: Ann speaks, Bob hears her. With an appliance at hand, URL and TLS are its own, and
// client.OpenMeeting needs its owner token from another machine.
func ExampleJoin() {
	server, err := startServer(slog.New(slog.DiscardHandler), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	meeting, err := client.OpenMeeting(ctx, server.http.URL, server.tls, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	join := func(name string, publish ...client.Publication) *client.Client {
		c, err := client.Join(ctx, client.Config{
			URL: meeting.URL, Room: meeting.Room, Name: name, TLS: server.tls, Publish: publish, AutoSubscribe: true,
		})
		if err != nil {
			panic(err)
		}
		return c
	}
	ann := join("Ann", client.Publication{Source: wire.Microphone})
	defer ann.Close()
	bob := join("Bob")
	defer bob.Close()

	// Ann sends frames of Opus, which an encoder would have made, as long as Bob listens.
	speaking, hush := context.WithCancel(ctx)
	spoken := make(chan struct{})
	go func() {
		defer close(spoken)
		every := time.NewTicker(20 * time.Millisecond)
		defer every.Stop()
		for {
			select {
			case <-every.C:
				if err := ann.Local(wire.Microphone).WriteFrame([]byte{0xf8, 0xff, 0xfe}, 20*time.Millisecond); err != nil {
					fmt.Println(err)
				}
			case <-speaking.Done():
				return
			}
		}
	}()

	// Everything arrives as a message: first the track that begins to play, then its packets.
	stream := <-bob.Streams()
	packet := <-stream.Packets()
	fmt.Printf("Bob hears the %s in %s: %d bytes of payload type %d\n", stream.Track.Source, stream.Track.Codec, len(packet.Payload), packet.PayloadType)
	hush()
	<-spoken

	if _, err := bob.Chat(ctx, "Loud and clear."); err != nil {
		fmt.Println(err)
	}
	for e := range ann.Events() {
		if line, ok := e.(*wire.ChatLine); ok {
			fmt.Printf("%s writes: %s\n", line.Name, line.Text)
			break
		}
	}
	if err := bob.Leave(ctx); err != nil {
		fmt.Println(err)
	}

	// Output:
	// Bob hears the microphone in opus: 3 bytes of payload type 111
	// Bob writes: Loud and clear.
}
