package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Relay shows and ends what the node relays over TURN. Errors that wrap
// ErrNotFound tell that there is no such allocation.
type Relay interface {
	Allocations(ctx context.Context) ([]Allocation, error)
	EndAllocation(ctx context.Context, id string) error
}

// Allocation is a relayed address that a TURN client holds.
type Allocation struct {
	ID        string    `json:"id"`
	Realm     string    `json:"realm"`
	User      string    `json:"user" doc:"Whom quotas count it for: of time-limited credentials what is behind the expiry."`
	Transport string    `json:"transport" enum:"udp,tcp,tls,dtls" doc:"How the client speaks to the server."`
	Client    string    `json:"client" example:"198.18.0.7:50000"`
	Server    string    `json:"server" doc:"Address that the client speaks to."`
	Relayed   string    `json:"relayed" doc:"Address that peers speak to. A client that wants both families holds two allocations."`
	Protocol  string    `json:"protocol" enum:"udp,tcp" doc:"How peers speak to it; tcp: connections (RFC 6062)."`
	Mobile    bool      `json:"mobile" doc:"It goes on when its client comes from elsewhere (RFC 8016)."`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires" doc:"Unless the client refreshes it."`

	Permissions []string  `json:"permissions" nullable:"false" doc:"Addresses of peers that reach the client."`
	Channels    []Channel `json:"channels" nullable:"false"`
	Relays      []Relayed `json:"relays" nullable:"false" doc:"Payload by who has relayed it: the server itself, and what bound channels are given to, if that is not the server."`

	OverBandwidth uint64 `json:"overBandwidth" doc:"Packets dropped for the bandwidth of the user or the realm."`
	NoPermission  uint64 `json:"noPermission" doc:"Packets of and to peers that were dropped for want of permission."`
}

// Channel is bound to a peer.
type Channel struct {
	Number int    `json:"number"`
	Peer   string `json:"peer"`
	Engine string `json:"engine" enum:"server,batch,tcx,xdp" doc:"Who relays it now."`
}

// Relayed is payload that an engine has relayed.
type Relayed struct {
	Engine      string `json:"engine" enum:"server,batch,tcx,xdp"`
	UpPackets   uint64 `json:"upPackets" doc:"From the client; of connections the reads that they were."`
	UpBytes     uint64 `json:"upBytes"`
	DownPackets uint64 `json:"downPackets" doc:"To the client."`
	DownBytes   uint64 `json:"downBytes"`
}

// Allocations returns none.
func (None) Allocations(context.Context) ([]Allocation, error) { return nil, nil }

// EndAllocation finds none.
func (None) EndAllocation(context.Context, string) error { return ErrNotFound }

type (
	allocationList struct {
		Body struct {
			Allocations []Allocation `json:"allocations" nullable:"false"`
		}
	}
	inAllocation struct {
		ID string `path:"id" maxLength:"64" doc:"Id of the allocation."`
	}
)

func (o operations) registerRelay(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-allocations", Method: http.MethodGet, Path: "/admin/v1/turn/allocations",
		Summary: "What is relayed over TURN, the oldest first", Errors: []int{http.StatusUnauthorized},
	}, o.listAllocations)
	huma.Register(api, huma.Operation{
		OperationID: "end-allocation", Method: http.MethodDelete, Path: "/admin/v1/turn/allocations/{id}",
		Summary: "End an allocation at once; its client may make another", Errors: []int{http.StatusUnauthorized, http.StatusNotFound},
	}, o.endAllocation)
}

func (o operations) listAllocations(ctx context.Context, _ *nothing) (*allocationList, error) {
	list, err := o.cfg.Relay.Allocations(ctx)
	if err != nil {
		return nil, o.refusal("list allocations", err)
	}
	out := &allocationList{}
	out.Body.Allocations = make([]Allocation, len(list)) // [] rather than null, and within
	for i, a := range list {
		a.Permissions, a.Channels, a.Relays = append([]string{}, a.Permissions...), append([]Channel{}, a.Channels...), append([]Relayed{}, a.Relays...)
		out.Body.Allocations[i] = a
	}
	return out, nil
}

func (o operations) endAllocation(ctx context.Context, in *inAllocation) (*nothing, error) {
	if err := o.cfg.Relay.EndAllocation(ctx, in.ID); err != nil {
		return nil, o.refusal("end allocation "+in.ID, err)
	}
	o.log.Info("admin ended a TURN allocation", "allocation", in.ID)
	return nil, nil
}
