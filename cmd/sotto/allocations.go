package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/sotto-edge/sotto/control/admin"
)

// Allocations implements admin.Relay.
func (r *relayServers) Allocations(context.Context) ([]admin.Allocation, error) {
	if r.server == nil {
		return nil, nil
	}
	all := r.server.Allocations()
	out := make([]admin.Allocation, len(all))
	for i, a := range all {
		v := admin.Allocation{
			ID: a.ID, Realm: a.Realm, User: a.User, Transport: string(a.Transport), Client: a.Client.String(), Server: a.Server.String(),
			Relayed: a.Relayed.String(), Protocol: "udp", Mobile: a.Mobile, Created: a.Created.UTC(), Expires: a.Expires.UTC(),
			OverBandwidth: a.DroppedPackets, NoPermission: a.RefusedByPolicy,
			Relays: []admin.Relayed{{Engine: "server", UpPackets: a.Up.Packets, UpBytes: a.Up.Bytes, DownPackets: a.Down.Packets, DownBytes: a.Down.Bytes}},
		}
		if a.TCP {
			v.Protocol = "tcp"
		}
		if engine := r.server.Engine(); engine != "none" {
			v.Relays = append(v.Relays, admin.Relayed{
				Engine: engine, UpPackets: a.OffloadedUp.Packets, UpBytes: a.OffloadedUp.Bytes,
				DownPackets: a.OffloadedDown.Packets, DownBytes: a.OffloadedDown.Bytes,
			})
		}
		for _, p := range a.Permissions {
			v.Permissions = append(v.Permissions, p.String())
		}
		for _, c := range a.Channels {
			v.Channels = append(v.Channels, admin.Channel{Number: int(c.Number), Peer: c.Peer.String(), Engine: c.Engine})
		}
		out[i] = v
	}
	return out, nil
}

// EndAllocation implements admin.Relay.
func (r *relayServers) EndAllocation(_ context.Context, id string) error {
	if r.server == nil || !r.server.End(id) {
		return admin.ErrNotFound
	}
	return nil
}

type (
	turnList struct{}
	turnGet  struct {
		ID string `arg:"" help:"Id of the allocation."`
	}
	turnEnd struct {
		ID string `arg:"" help:"Id of the allocation."`
	}
)

// Run lists the allocations.
func (turnList) Run(c *ctlCommand, env environment) error {
	var out struct{ Allocations []admin.Allocation }
	return c.call(env, http.MethodGet, "/turn/allocations", nil, &out, func(w io.Writer) {
		if len(out.Allocations) == 0 {
			fmt.Fprintln(w, "nothing is relayed")
			return
		}
		fmt.Fprintln(w, "ID\tUSER\tREALM\tOVER\tFROM\tRELAYED\tCHANNELS\tBYTES UP\tBYTES DOWN\tEXPIRES")
		for _, a := range out.Allocations {
			var up, down uint64
			for _, r := range a.Relays {
				up, down = up+r.UpBytes, down+r.DownBytes
			}
			// Names come from clients: quoted, they cannot write to the operator's terminal.
			fmt.Fprintf(w, "%s\t%q\t%s\t%s\t%s\t%s/%s\t%d\t%d\t%d\t%s\n",
				a.ID, a.User, a.Realm, a.Transport, a.Client, a.Relayed, a.Protocol, len(a.Channels), up, down, a.Expires.Local().Format(time.TimeOnly))
		}
	})
}

// Run shows one allocation.
func (v turnGet) Run(c *ctlCommand, env environment) error {
	var out struct{ Allocations []admin.Allocation }
	found := false
	err := c.call(env, http.MethodGet, "/turn/allocations", nil, &out, func(w io.Writer) {
		for _, a := range out.Allocations {
			if a.ID == v.ID {
				found = true
				printAllocation(w, a)
			}
		}
	})
	if err == nil && !found && !c.JSON {
		return fmt.Errorf("ctl: there is no allocation %s", v.ID)
	}
	return err
}

func printAllocation(w io.Writer, a admin.Allocation) {
	fmt.Fprintf(w, "user\t%q of %s\nclient\t%s over %s, to %s\nrelayed\t%s/%s\nmobile\t%t\nsince\t%s\nexpires\t%s\n",
		a.User, a.Realm, a.Client, a.Transport, a.Server, a.Relayed, a.Protocol, a.Mobile, a.Created.Local().Format(time.DateTime), a.Expires.Local().Format(time.DateTime))
	for _, p := range a.Permissions {
		fmt.Fprintf(w, "permission\t%s\n", p)
	}
	for _, ch := range a.Channels {
		fmt.Fprintf(w, "channel\t0x%04X to %s, by %s\n", ch.Number, ch.Peer, ch.Engine)
	}
	for _, r := range a.Relays {
		fmt.Fprintf(w, "by %s\t%d packets, %d bytes up; %d packets, %d bytes down\n", r.Engine, r.UpPackets, r.UpBytes, r.DownPackets, r.DownBytes)
	}
	fmt.Fprintf(w, "dropped\t%d over the bandwidth, %d without permission\n", a.OverBandwidth, a.NoPermission)
}

// Run ends an allocation.
func (v turnEnd) Run(c *ctlCommand, env environment) error {
	return c.call(env, http.MethodDelete, "/turn/allocations/"+url.PathEscape(v.ID), nil, nil, func(w io.Writer) { fmt.Fprintln(w, "ended") })
}
