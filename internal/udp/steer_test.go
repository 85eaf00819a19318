package udp

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// interpret runs a program as the kernel does, over a datagram from the IP header on.
func interpret(t *testing.T, program []instruction, ip []byte) uint32 {
	t.Helper()
	var a, x uint32
	var m [16]uint32
	at := func(k uint32, n int) uint32 {
		i := int(k - bpfNetwork)
		if i < 0 || i+n > len(ip) {
			t.Fatalf("load of %d bytes at %d", n, i)
		}
		var b [4]byte
		copy(b[4-n:], ip[i:i+n])
		return binary.BigEndian.Uint32(b[:])
	}
	for pc := 0; pc < len(program); pc++ {
		jump := func(yes bool, i instruction) {
			if yes {
				pc += int(i.jt)
			} else {
				pc += int(i.jf)
			}
		}
		switch i := program[pc]; i.code {
		case bpfLoadWord:
			a = at(i.k, 4)
		case bpfLoadHalf:
			a = at(i.k, 2)
		case bpfLoadByte:
			a = at(i.k, 1)
		case bpfIndHalf:
			a = at(i.k+x, 2)
		case bpfLoadXHead:
			x = 4 * (at(i.k, 1) & 0xf)
		case bpfStore:
			m[i.k] = a
		case bpfRestoreX:
			x = m[i.k]
		case bpfAnd:
			a &= i.k
		case bpfMul:
			a *= i.k
		case bpfXorX:
			a ^= x
		case bpfJump:
			pc += int(i.k)
		case bpfJumpEqual:
			jump(a == i.k, i)
		case bpfJumpGE:
			jump(a >= i.k, i)
		case bpfReturn:
			return i.k
		default:
			t.Fatalf("instruction %#x", i.code)
		}
	}
	t.Fatal("no return")
	return 0
}

// packet is a datagram from a peer, from the IP header on: options are words behind an IPv4 header, next is IPv6's next header.
func ipPacket(from netip.AddrPort, options int, next byte) []byte {
	var b []byte
	if from.Addr().Is4() {
		b = make([]byte, 20+4*options)
		b[0] = 0x45 + byte(options)
		copy(b[12:], from.Addr().AsSlice())
	} else {
		b = make([]byte, 40)
		b[0], b[6] = 0x60, next
		copy(b[8:], from.Addr().AsSlice())
	}
	b = binary.BigEndian.AppendUint16(b, from.Port())
	return append(b, make([]byte, 6)...)
}

func peer(r *rand.Rand) netip.AddrPort {
	var b [16]byte
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	if r.IntN(2) == 0 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), uint16(r.Uint32()))
	}
	return netip.AddrPortFrom(netip.AddrFrom16(b), uint16(r.Uint32()))
}

// Every peer is found, nobody else is, in programs of every size.
func TestSteerProgram(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 7, 8, 9, 40, 500, SteerMax, 3000} {
		var rows []Steered
		for i := range n {
			rows = append(rows, Steered{peer(r), i % 5})
		}
		program, taken := steerProgram(rows)
		if len(program) > steerInstructions || taken != n && taken < SteerMax {
			t.Fatalf("%d instructions for %d of %d peers", len(program), taken, n)
		}
		missing := 0
		for _, x := range rows {
			got := interpret(t, program, ipPacket(x.Remote, r.IntN(11), 17))
			if got == bpfHash {
				missing++
			} else if got != uint32(x.Index) {
				t.Errorf("%v: %d, expected %d", x.Remote, got, x.Index)
			}
		}
		if missing != n-taken {
			t.Errorf("%d of %d not found, %d taken", missing, n, taken)
		}
		for range 100 {
			if got := interpret(t, program, ipPacket(peer(r), 0, 17)); got != bpfHash {
				t.Errorf("a stranger is found at %d", got)
			}
		}
	}
	v6 := netip.MustParseAddrPort("[2001:db8::1]:5")
	program, _ := steerProgram([]Steered{{v6, 1}})
	if got := interpret(t, program, ipPacket(v6, 0, 43)); got != bpfHash {
		t.Errorf("behind an extension header: %d", got)
	}
}
