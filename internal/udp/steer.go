package udp

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Steered says which socket of those that share an address datagrams of one peer are for: Index counts in the order in which the
// sockets were opened.
type Steered struct {
	Remote netip.AddrPort
	Index  int
}

// SteerMax is how many peers Steer takes at least.
const SteerMax = 1500

// steerInstructions is the most that the kernel takes (BPF_MAXINSNS).
const steerInstructions = 4096

// instruction is one of classic BPF.
type instruction struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// The codes used, as in linux/bpf_common.h.
const (
	bpfLoadWord  = 0x20 // A = 32 bits at k
	bpfLoadHalf  = 0x28 // A = 16 bits at k
	bpfLoadByte  = 0x30 // A = 8 bits at k
	bpfIndHalf   = 0x48 // A = 16 bits at X+k
	bpfLoadXHead = 0xb1 // X = 4*(byte at k & 0xf)
	bpfStore     = 0x02 // M[k] = A
	bpfRestoreX  = 0x61 // X = M[k]
	bpfAnd       = 0x54
	bpfMul       = 0x24
	bpfXorX      = 0xac
	bpfJump      = 0x05
	bpfJumpEqual = 0x15
	bpfJumpGE    = 0x35
	bpfReturn    = 0x06

	bpfNetwork = 0xfff00000 // SKF_NET_OFF: counted from the IP header
	bpfHash    = 0xffffffff // no socket's index: the kernel goes by its hash
)

// steerKey is what the program knows a peer by. That two peers have the same one is possible, and only makes one of them land in the
// wrong place.
func steerKey(a netip.AddrPort) uint32 {
	key := uint32(0)
	for ip := a.Addr().Unmap().AsSlice(); len(ip) > 0; ip = ip[4:] {
		key = (key ^ binary.BigEndian.Uint32(ip)) * steerPrime
	}
	return (key ^ uint32(a.Port())) * steerPrime
}

const steerPrime = 0x01000193 // of FNV-1a

// steerProgram makes the program that looks a datagram's source up among rows. It returns how many of them it has.
func steerProgram(rows []Steered) (program []instruction, taken int) {
	type leaf struct{ key, index uint32 }
	leaves := make([]leaf, 0, len(rows))
	for _, r := range rows {
		leaves = append(leaves, leaf{steerKey(r.Remote), uint32(r.Index)})
	}
	slices.SortFunc(leaves, func(a, b leaf) int { return cmp.Compare(a.key, b.key) })
	leaves = slices.CompactFunc(leaves, func(a, b leaf) bool { return a.key == b.key })

	p := []instruction{
		{code: bpfLoadByte, k: bpfNetwork},
		{code: bpfAnd, k: 0xf0},
		{code: bpfJumpEqual, k: 0x60, jf: 1},
		{code: bpfJump, k: 0}, // to IPv6, set below
		// IPv4: the source address, and the port behind a header of whatever length.
		{code: bpfLoadWord, k: bpfNetwork + 12},
		{code: bpfMul, k: steerPrime},
		{code: bpfStore, k: 0},
		{code: bpfLoadXHead, k: bpfNetwork},
		{code: bpfIndHalf, k: bpfNetwork},
		{code: bpfJump, k: 0}, // to the rest, set below
	}
	p[3].k = uint32(len(p) - 4)
	p = append(p, // IPv6 without extension headers; others go by the hash
		instruction{code: bpfLoadByte, k: bpfNetwork + 6},
		instruction{code: bpfJumpEqual, k: 17, jt: 1},
		instruction{code: bpfReturn, k: bpfHash},
		instruction{code: bpfLoadWord, k: bpfNetwork + 8},
	)
	for word := uint32(0); word < 4; word++ {
		if word > 0 {
			p = append(p,
				instruction{code: bpfRestoreX, k: 0},
				instruction{code: bpfLoadWord, k: bpfNetwork + 8 + 4*word},
				instruction{code: bpfXorX},
			)
		}
		p = append(p, instruction{code: bpfMul, k: steerPrime}, instruction{code: bpfStore, k: 0})
	}
	p = append(p, instruction{code: bpfLoadHalf, k: bpfNetwork + 40})
	p[9].k = uint32(len(p) - 10)
	p = append(p, instruction{code: bpfRestoreX, k: 0}, instruction{code: bpfXorX}, instruction{code: bpfMul, k: steerPrime})

	// A binary search, down to a few that are tried in turn.
	const few = 8
	room := steerInstructions - len(p)
	for steerSize(len(leaves), few) > room {
		leaves = leaves[:len(leaves)-max(1, len(leaves)/64)]
	}
	var search func(l []leaf)
	search = func(l []leaf) {
		if len(l) <= few {
			for _, x := range l {
				p = append(p, instruction{code: bpfJumpEqual, k: x.key, jf: 1}, instruction{code: bpfReturn, k: x.index})
			}
			p = append(p, instruction{code: bpfReturn, k: bpfHash})
			return
		}
		mid := len(l) / 2
		p = append(p, instruction{code: bpfJumpGE, k: l[mid].key, jf: 1}, instruction{code: bpfJump})
		at := len(p) - 1
		search(l[:mid])
		p[at].k = uint32(len(p) - at - 1) // conditional jumps reach 255 instructions, this one anywhere
		search(l[mid:])
	}
	search(leaves)
	return p, len(leaves)
}

// steerSize is how many instructions the search among n takes.
func steerSize(n, few int) int {
	if n <= few {
		return 2*n + 1
	}
	return 2 + steerSize(n/2, few) + steerSize(n-n/2, few)
}
