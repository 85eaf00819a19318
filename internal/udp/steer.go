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

// SteerMax is how many peers Steer takes at least, among as many as 16 sockets.
const SteerMax = 1000

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
	bpfLoadLen   = 0x80 // A = length of the datagram
	bpfLoad      = 0x00 // A = k
	bpfStore     = 0x02 // M[k] = A
	bpfRestore   = 0x60 // A = M[k]
	bpfRestoreX  = 0x61 // X = M[k]
	bpfAnd       = 0x54
	bpfMul       = 0x24
	bpfMod       = 0x94
	bpfShift     = 0x74 // A >>= k
	bpfXorX      = 0xac
	bpfAddX      = 0x0c
	bpfJump      = 0x05
	bpfJumpEqual = 0x15
	bpfJumpGE    = 0x35
	bpfReturnA   = 0x16

	bpfNetwork = 0xfff00000 // SKF_NET_OFF: counted from the IP header; without it, from the datagram's first byte
)

// Places in the program's memory.
const (
	steerHash  = 0 // of the source
	steerQueue = 1 // 0 for the socket's main queue, 1 for that of what can wait
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

// patient are the datagrams that can wait, by their first two bytes (first & mask == is): transport-wide feedback
// (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1) and congestion control feedback (RFC 8888 §3.1), whose padding bit may be
// set; reports of who only receives, and what comes behind them (RFC 3550 §6.4.2); binding requests and the answers to ours (RFC 8489 §5).
var patient = [...]struct{ mask, is uint32 }{{0xdfff, 0x8fcd}, {0xdfff, 0x8bcd}, {0xc0ff, 0x80c9}, {0xfeff, 0x0001}}

// steerProgram makes the program that finds the queue of a datagram among those of n sockets, each with one for what can wait behind its
// main one if aside is set. A source is looked up among rows, and if it is not there a hash of it chooses the socket. The program
// returns how many of the rows it has.
func steerProgram(rows []Steered, n int, aside bool) (program []instruction, taken int) {
	var p []instruction
	emit := func(x ...instruction) { p = append(p, x...) }
	queues := uint32(1)
	if aside {
		queues = 2
		const each = 3
		last := uint8(each*len(patient)) + 1 // instructions from the first of those to the load of 1
		emit(instruction{code: bpfLoadLen}, instruction{code: bpfJumpGE, k: 2, jf: last - 1})
		for i, x := range patient {
			emit(
				instruction{code: bpfLoadHalf, k: 0},
				instruction{code: bpfAnd, k: x.mask},
				instruction{code: bpfJumpEqual, k: x.is, jt: last - uint8(each*(i+1)) + 1},
			)
		}
		emit(
			instruction{code: bpfLoad, k: 0},
			instruction{code: bpfJump, k: 1},
			instruction{code: bpfLoad, k: 1},
			instruction{code: bpfStore, k: steerQueue},
		)
	} else {
		emit(instruction{code: bpfLoad, k: 0}, instruction{code: bpfStore, k: steerQueue})
	}
	if n == 1 {
		emit(instruction{code: bpfRestore, k: steerQueue}, instruction{code: bpfReturnA})
		return p, len(rows)
	}

	emit(
		instruction{code: bpfLoadByte, k: bpfNetwork},
		instruction{code: bpfAnd, k: 0xf0},
		instruction{code: bpfJumpEqual, k: 0x60, jf: 1},
		instruction{code: bpfJump}, // to IPv6, set below
	)
	toIPv6 := len(p) - 1
	emit( // IPv4: the source address, and the port behind a header of whatever length
		instruction{code: bpfLoadWord, k: bpfNetwork + 12},
		instruction{code: bpfMul, k: steerPrime},
		instruction{code: bpfStore, k: steerHash},
		instruction{code: bpfLoadXHead, k: bpfNetwork},
		instruction{code: bpfIndHalf, k: bpfNetwork},
		instruction{code: bpfJump}, // to the rest, set below
	)
	toRest := len(p) - 1
	p[toIPv6].k = uint32(len(p) - toIPv6 - 1)
	for word := range uint32(4) {
		load := instruction{code: bpfLoadWord, k: bpfNetwork + 8 + 4*word}
		if word == 0 {
			emit(load)
		} else {
			emit(instruction{code: bpfRestoreX, k: steerHash}, load, instruction{code: bpfXorX})
		}
		emit(instruction{code: bpfMul, k: steerPrime}, instruction{code: bpfStore, k: steerHash})
	}
	emit( // the port, where there are no extension headers; with them it is something else, and the lookup fails
		instruction{code: bpfLoadHalf, k: bpfNetwork + 40},
	)
	p[toRest].k = uint32(len(p) - toRest - 1)
	emit(
		instruction{code: bpfRestoreX, k: steerHash}, instruction{code: bpfXorX}, instruction{code: bpfMul, k: steerPrime},
		instruction{code: bpfStore, k: steerHash},
	)

	leaves := make([]leaf, 0, len(rows))
	for _, r := range rows {
		leaves = append(leaves, leaf{steerKey(r.Remote), uint32(r.Index) * queues})
	}
	slices.SortFunc(leaves, func(a, b leaf) int { return cmp.Compare(a.key, b.key) })
	leaves = slices.CompactFunc(leaves, func(a, b leaf) bool { return a.key == b.key })
	const tail = 6
	for len(p)+steerSize(leaves)+tail > steerInstructions {
		leaves = leaves[:len(leaves)-max(1, len(leaves)/64)]
	}
	var exits []int // jumps to the end of the program
	p, exits = steerSearch(p, leaves, nil)
	// Whoever is not known: the high bits, for the low ones of ports are not spread evenly.
	emit(instruction{code: bpfRestore, k: steerHash}, instruction{code: bpfShift, k: 16},
		instruction{code: bpfMod, k: uint32(n)}, instruction{code: bpfMul, k: queues})
	for _, at := range exits {
		p[at].k = uint32(len(p) - at - 1)
	}
	emit(instruction{code: bpfRestoreX, k: steerQueue}, instruction{code: bpfAddX}, instruction{code: bpfReturnA})
	return p, len(leaves)
}

// leaf is a peer of the search.
type leaf struct{ key, index uint32 }

// steerFew are tried in turn at the end of the search.
const steerFew = 8

// steerSearch adds a binary search among l, by the key in A, to p. What is found leaves by a jump with the index in A, which is added
// to exits; what is not goes on behind the search.
func steerSearch(p []instruction, l []leaf, exits []int) ([]instruction, []int) {
	var misses []int
	var search func(l []leaf)
	search = func(l []leaf) {
		if len(l) > steerFew {
			mid := len(l) / 2
			p = append(p, instruction{code: bpfJumpGE, k: l[mid].key, jf: 1}, instruction{code: bpfJump})
			at := len(p) - 1
			search(l[:mid])
			p[at].k = uint32(len(p) - at - 1) // conditional jumps reach 255 instructions, this one anywhere
			search(l[mid:])
			return
		}
		first := len(p)
		for _, x := range l {
			p = append(p, instruction{code: bpfJumpEqual, k: x.key})
		}
		misses = append(misses, len(p))
		p = append(p, instruction{code: bpfJump})
		for _, index := range indices(l) {
			for i, x := range l {
				if x.index == index {
					p[first+i].jt = uint8(len(p) - first - i - 1)
				}
			}
			p = append(p, instruction{code: bpfLoad, k: index}, instruction{code: bpfJump})
			exits = append(exits, len(p)-1)
		}
	}
	search(l)
	for _, at := range misses {
		p[at].k = uint32(len(p) - at - 1)
	}
	return p, exits
}

// indices returns each index in l once.
func indices(l []leaf) (out []uint32) {
	for _, x := range l {
		if !slices.Contains(out, x.index) {
			out = append(out, x.index)
		}
	}
	return out
}

// steerSize is how many instructions the search among l takes.
func steerSize(l []leaf) int {
	if len(l) > steerFew {
		return 2 + steerSize(l[:len(l)/2]) + steerSize(l[len(l)/2:])
	}
	return len(l) + 1 + 2*len(indices(l))
}
