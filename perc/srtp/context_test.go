package srtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var profiles = []Profile{AES128CMHMACSHA1_80, AEADAES128GCM, AEADAES256GCM}

// eachProfile runs f as a subtest per profile.
func eachProfile(t *testing.T, f func(t *testing.T, p Profile)) {
	for _, p := range profiles {
		t.Run(p.String(), func(t *testing.T) { f(t, p) })
	}
}

// testMaster is the same for each profile and call.
func testMaster(p Profile) (key, salt []byte) {
	rng := rand.New(rand.NewPCG(uint64(p), 9))
	return randomBytes(rng, p.KeyLen()), randomBytes(rng, p.SaltLen())
}

func newTestContext(t testing.TB, p Profile, role Role) *Context {
	t.Helper()
	key, salt := testMaster(p)
	k, err := NewKeys(p, key, salt)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Zero()
	c, err := New(k, role)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func stream(t testing.TB, c *Context, ssrc uint32) *Stream {
	t.Helper()
	s, err := c.Stream(ssrc)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// header is a twelve-byte RTP header.
func header(ssrc uint32, index uint64) []byte {
	h := make([]byte, rtpHeaderLen, 2000)
	h[0], h[1] = 0x80, 96
	binary.BigEndian.PutUint16(h[2:], uint16(index))
	binary.BigEndian.PutUint32(h[4:], uint32(index)*960)
	binary.BigEndian.PutUint32(h[8:], ssrc)
	return h
}

// payload can be told from every other.
func payload(ssrc uint32, index uint64) []byte {
	b := binary.BigEndian.AppendUint32(nil, ssrc)
	b = binary.BigEndian.AppendUint64(b, index)
	return bytes.Repeat(b, 1+int(index%20))
}

func seal(t testing.TB, c *Context, ssrc uint32, index uint64) []byte {
	t.Helper()
	pkt, err := c.SealRTP(stream(t, c, ssrc), index, header(ssrc, index), payload(ssrc, index))
	if err != nil {
		t.Fatalf("seal %x: %v", index, err)
	}
	return pkt
}

func open(t testing.TB, c *Context, pkt []byte, ssrc uint32, index uint64) {
	t.Helper()
	got, i, err := c.OpenRTP(nil, pkt, rtpHeaderLen)
	check(t.(*testing.T), "open", got, err, append(header(ssrc, index), payload(ssrc, index)...))
	if i != index {
		t.Fatalf("opened as index %x, want %x", i, index)
	}
}

func compound(ssrc uint32, n int) []byte {
	b := make([]byte, max(n, rtcpHeaderLen), n+100)
	for i := range b {
		b[i] = byte(i)
	}
	copy(b, []byte{0x80, 201, 0, 1})
	binary.BigEndian.PutUint32(b[4:], ssrc)
	return b
}

func TestProfile(t *testing.T) {
	for _, c := range []struct {
		p                                    Profile
		key, salt, rtp, rtcp, exporter, name any
	}{
		{AES128CMHMACSHA1_80, 16, 14, 10, 14, 60, "SRTP_AES128_CM_HMAC_SHA1_80"},
		{AEADAES128GCM, 16, 12, 16, 20, 56, "SRTP_AEAD_AES_128_GCM"},
		{AEADAES256GCM, 32, 12, 16, 20, 88, "SRTP_AEAD_AES_256_GCM"},
		{2, 0, 0, 0, 0, 0, "unknown SRTP profile"},
	} {
		got := []any{c.p.KeyLen(), c.p.SaltLen(), c.p.RTPOverhead(), c.p.RTCPOverhead(), c.p.ExporterLen(), c.p.String()}
		if d := cmp.Diff([]any{c.key, c.salt, c.rtp, c.rtcp, c.exporter, c.name}, got); d != "" {
			t.Errorf("profile %d:\n%s", c.p, d)
		}
	}
	eachProfile(t, func(t *testing.T, p Profile) {
		if got := newTestContext(t, p, Sender).Profile(); got != p {
			t.Errorf("the context is of %v", got)
		}
		client, server, err := SplitExported(p, make([]byte, p.ExporterLen()))
		if err != nil || client.Profile() != p || server.Profile() != p {
			t.Errorf("the keys are of %v and %v (%v)", client.Profile(), server.Profile(), err)
		}
		if got := (Keys{}).Profile(); got != 0 {
			t.Errorf("no keys are of %v", got)
		}
	})
}

func TestReplay(t *testing.T) {
	eachProfile(t, func(t *testing.T, p Profile) {
		sender, receiver := newTestContext(t, p, Sender), newTestContext(t, p, Receiver)
		var sealed [][]byte
		for i := range uint64(600) {
			sealed = append(sealed, seal(t, sender, 1, i))
		}
		for i := range uint64(600) {
			if i != 599-511 && i != 599-512 {
				open(t, receiver, sealed[i], 1, i)
			}
		}
		for i := range sealed {
			if i == 599-511 {
				continue
			}
			if _, _, err := receiver.OpenRTP(nil, sealed[i], rtpHeaderLen); !errors.Is(err, ErrReplay) {
				t.Fatalf("packet %d again: %v", i, err)
			}
		}
		open(t, receiver, sealed[599-511], 1, 599-511) // the oldest in the window

		rtcp, err := sender.SealRTCP(nil, compound(1, 60))
		if err != nil {
			t.Fatal(err)
		}
		got, err := receiver.OpenRTCP(nil, rtcp)
		check(t, "OpenRTCP", got, err, compound(1, 60))
		if _, err := receiver.OpenRTCP(nil, rtcp); !errors.Is(err, ErrReplay) {
			t.Fatalf("compound again: %v", err)
		}
	})
}

// TestReorderAcrossWrap delivers packets around two wraps of the sequence
// number in random order.
func TestReorderAcrossWrap(t *testing.T) {
	eachProfile(t, func(t *testing.T, p Profile) {
		rng := rand.New(rand.NewPCG(10, 11))
		sender, receiver := newTestContext(t, p, Sender), newTestContext(t, p, Receiver)
		for _, start := range []uint64{0x7000, 0xe800, 0xff00, 0x1_7000, 0x1_e800, 0x1_ff00} {
			var order []uint64
			for i := range uint64(512) {
				order = append(order, start+i)
			}
			rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			for _, i := range order {
				open(t, receiver, seal(t, sender, 7, i), 7, i)
			}
		}
	})
}

// TestForgery: forged packets leave no state.
func TestForgery(t *testing.T) {
	eachProfile(t, func(t *testing.T, p Profile) {
		sender, receiver := newTestContext(t, p, Sender), newTestContext(t, p, Receiver)
		before := receiver.AppendState(nil)
		good := seal(t, sender, 1, 19)
		rtcp, err := sender.SealRTCP(nil, compound(1, 40))
		if err != nil {
			t.Fatal(err)
		}
		for bit := range len(good) * 8 {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, _, err := receiver.OpenRTP(bad[:0], bad, rtpHeaderLen); !errors.Is(err, ErrAuth) {
				t.Fatalf("RTP with bit %d flipped: %v", bit, err)
			}
		}
		for bit := range len(rtcp) * 8 {
			bad := bytes.Clone(rtcp)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := receiver.OpenRTCP(bad[:0], bad); !errors.Is(err, ErrAuth) {
				t.Fatalf("RTCP with bit %d flipped: %v", bit, err)
			}
		}
		for n := range len(good) {
			if _, _, err := receiver.OpenRTP(nil, good[:n], rtpHeaderLen); err == nil {
				t.Fatalf("RTP cut to %d opened", n)
			}
		}
		for n := range len(rtcp) {
			if _, err := receiver.OpenRTCP(nil, rtcp[:n]); err == nil {
				t.Fatalf("RTCP cut to %d opened", n)
			}
		}
		if !bytes.Equal(before, receiver.AppendState(nil)) {
			t.Fatal("forgeries changed the state")
		}
		open(t, receiver, good, 1, 19)
	})
}

func TestIndexNeverReused(t *testing.T) {
	eachProfile(t, func(t *testing.T, p Profile) {
		c := newTestContext(t, p, Sender)
		s := stream(t, c, 5)
		try := func(index uint64) error {
			_, err := c.SealRTP(s, index, header(5, index), []byte("x"))
			return err
		}
		for _, step := range []struct {
			index uint64
			want  error
		}{
			{1000, nil},
			{1000, ErrIndexReused},
			{999, nil}, // late but fresh
			{999, ErrIndexReused},
			{1512, nil},
			{1000, ErrIndexReused}, // has left the window
			{1001, nil},            // has not
			{1002, nil},
			{1_000_000, nil},
			{1513, ErrIndexReused},
			{maxIndex + 1, ErrExhausted},
			{maxIndex, nil},
			{maxIndex, ErrIndexReused},
		} {
			if err := try(step.index); !errors.Is(err, step.want) {
				t.Fatalf("index %d: %v, want %v", step.index, err, step.want)
			}
		}
		if top, ok := s.Highest(); top != maxIndex || !ok {
			t.Fatalf("highest %d %v", top, ok)
		}
	})
}

func TestLease(t *testing.T) {
	c := newTestContext(t, AEADAES128GCM, Sender)
	s := stream(t, c, 5)
	s.SetLimit(10)
	seal(t, c, 5, 10)
	if _, err := c.SealRTP(s, 11, header(5, 11), nil); !errors.Is(err, ErrLease) {
		t.Fatalf("above the limit: %v", err)
	}
	if top, _ := s.Highest(); top != 10 {
		t.Fatalf("a refused index was used: highest %d", top)
	}
	s.SetLimit(11)
	seal(t, c, 5, 11)

	c.SetRTCPLimit(1)
	for i, want := range []error{nil, nil, ErrLease, ErrLease} {
		if _, err := c.SealRTCP(nil, compound(1, 8)); !errors.Is(err, want) {
			t.Fatalf("compound %d: %v, want %v", i, err, want)
		}
	}
	c.SetRTCPLimit(2)
	if _, err := c.SealRTCP(nil, compound(1, 8)); err != nil {
		t.Fatal(err)
	}
	c.SetRTCPLimit(1 << 40)
	c.rtcpNext = maxRTCPIndex
	for _, want := range []error{nil, ErrExhausted} {
		if _, err := c.SealRTCP(nil, compound(1, 8)); !errors.Is(err, want) {
			t.Fatalf("last index: %v, want %v", err, want)
		}
	}
}

func TestStreamLimits(t *testing.T) {
	const spread = 0x1e3779b1 // so that SSRCs do not come in order
	c := newTestContext(t, AEADAES128GCM, Sender)
	receiver := newTestContext(t, AEADAES128GCM, Receiver)
	for i := range uint32(maxSendStreams) {
		pkt := seal(t, c, i*spread, 1)
		_, _, err := receiver.OpenRTP(nil, pkt, rtpHeaderLen)
		if i < maxReceiveStreams && err != nil || i >= maxReceiveStreams && !errors.Is(err, ErrTooManyStreams) {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
	if _, err := c.Stream(1); !errors.Is(err, ErrTooManyStreams) {
		t.Fatalf("one stream more: %v", err)
	}
	s := stream(t, c, 3*spread)
	if top, ok := s.Highest(); s.SSRC() != 3*spread || top != 1 || !ok {
		t.Fatal("an old stream is not found again")
	}
	if _, err := receiver.OpenRTCP(nil, compound(1, 60)); !errors.Is(err, ErrTooManyStreams) {
		t.Fatalf("compound of one SSRC more: %v", err)
	}
}

func TestMisuse(t *testing.T) {
	sender, receiver := newTestContext(t, AEADAES128GCM, Sender), newTestContext(t, AEADAES128GCM, Receiver)
	s := stream(t, sender, 1)
	foreign := stream(t, newTestContext(t, AEADAES128GCM, Sender), 1)
	sealRTP := func(c *Context, s *Stream, index uint64, dst, payload []byte) error {
		_, err := c.SealRTP(s, index, dst, payload)
		return err
	}
	openRTP := func(c *Context, pkt []byte, n int) error {
		_, _, err := c.OpenRTP(nil, pkt, n)
		return err
	}
	rtcp := func(_ []byte, err error) error { return err }
	_, role := receiver.Stream(1)
	_, badProfile := NewKeys(2, nil, nil)
	_, badKey := NewKeys(AEADAES128GCM, make([]byte, 16), make([]byte, 14))
	_, noKeys := New(Keys{}, Sender)
	key, salt := testMaster(AEADAES128GCM)
	k, err := NewKeys(AEADAES128GCM, key, salt)
	if err != nil {
		t.Fatal(err)
	}
	_, badRole := New(k, 0)
	k.Zero()
	_, wiped := New(k, Sender)
	huge := make([]byte, maxPacket+100)
	for what, c := range map[string]struct{ got, want error }{
		"stream of a receiver":  {role, errRole},
		"seal by a receiver":    {sealRTP(receiver, s, 0, header(1, 0), nil), errRole},
		"open by a sender":      {openRTP(sender, make([]byte, 60), 12), errRole},
		"RTCP by a receiver":    {rtcp(receiver.SealRTCP(nil, compound(1, 8))), errRole},
		"RTCP open by a sender": {rtcp(sender.OpenRTCP(nil, compound(1, 60))), errRole},
		"foreign stream":        {sealRTP(sender, foreign, 0, header(1, 0), nil), errStream},
		"short header":          {sealRTP(sender, s, 0, header(1, 0)[:11], nil), ErrShort},
		"wrong sequence number": {sealRTP(sender, s, 2, header(1, 3), nil), errHeader},
		"wrong SSRC":            {sealRTP(sender, s, 2, header(2, 2), nil), errHeader},
		"long payload":          {sealRTP(sender, s, 0, header(1, 0), huge), errLong},
		"long packet":           {openRTP(receiver, huge, 12), errLong},
		"header of 11":          {openRTP(receiver, huge[:60], 11), ErrShort},
		"header beyond the tag": {openRTP(receiver, huge[:60], 45), ErrShort},
		"short compound":        {rtcp(sender.SealRTCP(nil, huge[:7])), ErrShort},
		"long compound":         {rtcp(sender.SealRTCP(nil, huge)), errLong},
		"long SRTCP":            {rtcp(receiver.OpenRTCP(nil, huge)), errLong},
		"unknown profile":       {badProfile, errProfile},
		"wrong salt":            {badKey, errKeySize},
		"no keys":               {noKeys, errNoKeys},
		"no role":               {badRole, errRole},
		"wiped keys":            {wiped, errNoKeys},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
}

// TestPlacement: in place, behind something else, and into fresh memory, all
// give the same.
func TestPlacement(t *testing.T) {
	eachProfile(t, func(t *testing.T, p Profile) {
		for n := range 200 {
			index, body := uint64(n), bytes.Repeat([]byte{byte(n)}, n)
			plain := append(header(1, index), body...)
			sealer := func() (*Context, *Stream) {
				c := newTestContext(t, p, Sender)
				return c, stream(t, c, 1)
			}
			c, s := sealer()
			want, err := c.SealRTP(s, index, header(1, index)[:12:12], body)
			if err != nil {
				t.Fatal(err)
			}
			if len(want) != len(plain)+p.RTPOverhead() {
				t.Fatalf("overhead is %d", len(want)-len(plain))
			}
			c, s = sealer()
			b := append(plain, "not to be touched, what stands here"...)[:len(plain)]
			b = append(b[:len(b):len(b)], make([]byte, 40)...)
			got, err := c.SealRTP(s, index, b[:12], b[12:len(plain)])
			check(t, "in place", got, err, want)
			if &got[0] != &b[0] || !bytes.Equal(b[len(got):], make([]byte, len(b)-len(got))) {
				t.Fatal("not in place, or beyond the end")
			}
			r := newTestContext(t, p, Receiver)
			out, _, err := r.OpenRTP([]byte("before"), want, 12)
			check(t, "open behind", out, err, append([]byte("before"), plain...))
			r = newTestContext(t, p, Receiver)
			out, _, err = r.OpenRTP(got[:0], got, 12)
			check(t, "open in place", out, err, plain)

			c, _ = sealer()
			rtcp := compound(9, n)
			sealed, err := c.SealRTCP([]byte("before"), rtcp)
			if err != nil {
				t.Fatal(err)
			}
			sealed = sealed[len("before"):]
			if len(sealed) != len(rtcp)+p.RTCPOverhead() {
				t.Fatalf("RTCP overhead is %d", len(sealed)-len(rtcp))
			}
			c, _ = sealer()
			inPlace := compound(9, n)
			inPlace, err = c.SealRTCP(inPlace[:0], inPlace)
			check(t, "RTCP in place", inPlace, err, sealed)
			r = newTestContext(t, p, Receiver)
			out, err = r.OpenRTCP([]byte("before"), sealed)
			check(t, "RTCP behind", out, err, append([]byte("before"), rtcp...))
			r = newTestContext(t, p, Receiver)
			out, err = r.OpenRTCP(inPlace[:0], inPlace)
			check(t, "RTCP open in place", out, err, rtcp)
		}
	})
}

func TestZero(t *testing.T) {
	eachProfile(t, func(t *testing.T, p Profile) {
		c := newTestContext(t, p, Sender)
		s := stream(t, c, 1)
		m, tr := c.m, c.t
		c.Zero()
		c.Zero()
		if m.profile != 0 || *m.material != (material{}) {
			t.Error("master key left")
		}
		switch tr := tr.(type) {
		case *cm:
			if tr.rtp.stream != nil || tr.rtp.mac != nil || tr.rtp.sum != [20]byte{} {
				t.Error("AES-CM state left")
			}
		case *gcm:
			if *tr.rtp != (gcmHalf{}) || *tr.rtcp != (gcmHalf{}) {
				t.Error("AES-GCM state left")
			}
		}
		if _, err := c.SealRTP(s, 0, header(1, 0), nil); err == nil {
			t.Error("sealed after Zero")
		}
		if _, err := c.Stream(2); err == nil {
			t.Error("made a stream after Zero")
		}
		if len(c.AppendState(nil)) != 0 {
			t.Error("state after Zero")
		}
	})
}

func TestSplitExported(t *testing.T) {
	eachProfile(t, func(t *testing.T, p Profile) {
		k, s := p.KeyLen(), p.SaltLen()
		material := randomBytes(rand.New(rand.NewPCG(12, 13)), p.ExporterLen())
		client, server, err := SplitExported(p, material)
		if err != nil {
			t.Fatal(err)
		}
		// RFC 5764 §4.2: client key, server key, client salt, server salt.
		var got [][]byte
		for _, m := range []*master{client.m, server.m} {
			got = append(got, m.key[:k], m.salt[:s])
		}
		want := [][]byte{material[:k], material[2*k : 2*k+s], material[k : 2*k], material[2*k+s:]}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if _, _, err := SplitExported(p, material[1:]); !errors.Is(err, errKeySize) {
			t.Errorf("short material: %v", err)
		}
	})
}

// TestNoAllocationPerPacket: sealing and opening, RTP and RTCP, allocate
// nothing, also where the sequence number wraps.
func TestNoAllocationPerPacket(t *testing.T) {
	eachProfile(t, func(t *testing.T, p Profile) {
		for _, n := range []int{40, 1050} {
			sender, receiver := newTestContext(t, p, Sender), newTestContext(t, p, Receiver)
			s := stream(t, sender, 1)
			body, buf, out := make([]byte, n), make([]byte, 0, 2000), make([]byte, 0, 2000)
			rtcp := compound(1, n)
			h := header(1, 0)
			index := uint64(0xfff0)
			got := testing.AllocsPerRun(1000, func() {
				index++
				binary.BigEndian.PutUint16(h[2:], uint16(index))
				pkt, err := sender.SealRTP(s, index, append(buf, h...), body)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := receiver.OpenRTP(pkt[:0], pkt, rtpHeaderLen); err != nil {
					t.Fatal(err)
				}
				if pkt, err = sender.SealRTCP(buf, rtcp); err != nil {
					t.Fatal(err)
				}
				if _, err := receiver.OpenRTCP(out, pkt); err != nil {
					t.Fatal(err)
				}
			})
			if got != 0 {
				t.Errorf("%d bytes: %v allocations", n, got)
			}
		}
	})
}
