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
	head := 40
	if ip[0]>>4 == 4 {
		head = 4 * int(ip[0]&0xf)
	}
	payload := len(ip) - head - 8
	at := func(k uint32, n int) uint32 {
		i := int(k - bpfNetwork)
		if k < bpfNetwork {
			i = int(k) + head + 8
		}
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
		case bpfLoadLen:
			a = uint32(payload)
		case bpfLoad:
			a = i.k
		case bpfStore:
			m[i.k] = a
		case bpfRestore:
			a = m[i.k]
		case bpfRestoreX:
			x = m[i.k]
		case bpfAnd:
			a &= i.k
		case bpfMul:
			a *= i.k
		case bpfMod:
			a %= i.k
		case bpfShift:
			a >>= i.k
		case bpfXorX:
			a ^= x
		case bpfAddX:
			a += x
		case bpfJump:
			pc += int(i.k)
		case bpfJumpEqual:
			jump(a == i.k, i)
		case bpfJumpGE:
			jump(a >= i.k, i)
		case bpfReturnA:
			return a
		default:
			t.Fatalf("instruction %#x", i.code)
		}
	}
	t.Fatal("no return")
	return 0
}

// packet is a datagram from a peer, from the IP header on, with options words behind an IPv4 header.
func ipPacket(from netip.AddrPort, options int, payload ...byte) []byte {
	var b []byte
	if from.Addr().Is4() {
		b = make([]byte, 20+4*options)
		b[0] = 0x45 + byte(options)
		copy(b[12:], from.Addr().AsSlice())
	} else {
		b = make([]byte, 40)
		b[0], b[6] = 0x60, 17
		copy(b[8:], from.Addr().AsSlice())
	}
	b = binary.BigEndian.AppendUint16(b, from.Port())
	return append(append(b, make([]byte, 6)...), payload...)
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

// Every peer is found, everybody else is spread over all, in programs of every size; feedback has its own queue with either.
func TestSteerProgram(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	kinds := []struct {
		name    string
		payload []byte
		queue   uint32
	}{
		{"nothing", nil, 0},
		{"one byte", []byte{0x8f}, 0},
		{"transport-wide feedback", []byte{0x8f, 205}, 1},
		{"and padded", []byte{0xaf, 205, 0, 5}, 1},
		{"congestion control feedback", []byte{0x8b, 205, 0, 5}, 1},
		{"request to send again", []byte{0x81, 205, 0, 5}, 0},
		{"picture loss", []byte{0x81, 206, 0, 2}, 0},
		{"sender report", []byte{0x80, 200, 0, 2}, 0},
		{"receiver report", []byte{0x81, 201, 0, 7}, 1},
		{"and padded", []byte{0xa1, 201, 0, 8}, 1},
		{"of another version", []byte{0x41, 201, 0, 7}, 0},
		{"media", []byte{0x8f, 96 | 0x80, 0, 5}, 0},
		{"binding request", []byte{0, 1, 0, 5}, 1},
		{"its answer", []byte{1, 1, 0, 5}, 1},
		{"its refusal", []byte{1, 0x11, 0, 5}, 0},
		{"indication", []byte{0, 0x11, 0, 5}, 0},
		{"handshake", []byte{22, 0xfe, 0xff}, 0},
	}
	for _, sockets := range []int{1, 2, 5, 16} {
		for _, feedback := range []bool{false, true} {
			queues := uint32(1)
			if feedback {
				queues = 2
			}
			for _, n := range []int{0, 1, 2, 7, 8, 9, 40, 500, SteerMax, 3000} {
				var rows []Steered
				for i := range n {
					rows = append(rows, Steered{peer(r), i % sockets})
				}
				program, taken := steerProgram(rows, sockets, feedback)
				if len(program) > steerInstructions || taken != n && taken < SteerMax {
					t.Fatalf("%d instructions for %d of %d peers", len(program), taken, n)
				}
				missing := 0
				for i, x := range rows {
					kind := kinds[i%len(kinds)]
					got := interpret(t, program, ipPacket(x.Remote, r.IntN(11), kind.payload...))
					if feedback && got%2 != kind.queue {
						t.Fatalf("%s is in queue %d", kind.name, got%2)
					}
					if got/queues != uint32(x.Index) {
						missing++
					}
				}
				if missing > n-taken {
					t.Errorf("%d of %d not found, %d taken", missing, n, taken)
				}
				seen := make([]int, sockets)
				for range 100 * sockets {
					from := peer(r) // ephemeral ports are of one parity on some systems
					from = netip.AddrPortFrom(from.Addr(), from.Port()|1)
					seen[interpret(t, program, ipPacket(from, 0, 0x90, 96))/queues]++
				}
				for i, k := range seen {
					if k < 50 || k > 150 {
						t.Errorf("%d of %d strangers are at socket %d of %d", k, 100*sockets, i, sockets)
					}
				}
			}
		}
	}
}
