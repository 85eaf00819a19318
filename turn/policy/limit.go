package policy

import (
	"net/netip"
	"sync"
	"time"
)

// Bucket is a token bucket. One of no rate refuses nothing. It may be used by many goroutines.
type Bucket struct {
	mu    sync.Mutex
	rate  float64 // per second
	burst float64
	have  float64
	at    time.Time
}

// NewBucket makes a bucket that fills at rate per second and holds burst. It begins full.
func NewBucket(rate, burst float64) *Bucket { return &Bucket{rate: rate, burst: burst, have: burst} }

// Take takes n if that much is there, and says whether it was.
func (b *Bucket) Take(n float64, now time.Time) bool {
	if b == nil || b.rate <= 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	if b.have < n {
		return false
	}
	b.have -= n
	return true
}

// Spend takes n though it may not be there, for what has happened already, and says whether it was.
func (b *Bucket) Spend(n float64, now time.Time) bool {
	if b == nil || b.rate <= 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	b.have = max(b.have-n, -b.burst) // a debt is paid within as long as a full bucket takes to fill
	return b.have >= 0
}

// Rate returns how much comes back per second.
func (b *Bucket) Rate() float64 { return b.rate }

func (b *Bucket) fill(now time.Time) {
	if !b.at.IsZero() {
		b.have = min(b.burst, b.have+b.rate*max(0, now.Sub(b.at).Seconds()))
	}
	b.at = now
}

// full says whether nothing is to be remembered of the bucket.
func (b *Bucket) full(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	return b.have >= b.burst
}

// Strangers bounds what is answered to those who have not proven who they are: each source, and all of them together. A source is
// an IPv4 address or an IPv6 network of 64 bits, which is one customer's.
type Strangers struct {
	mu    sync.Mutex
	each  float64
	most  int
	by    map[netip.Addr]*Bucket
	all   *Bucket
	rest  *Bucket // of sources that there is no room for
	swept time.Time
}

// NewStrangers answers each source so many times per second, and all of them so many. It remembers most sources.
func NewStrangers(each, all float64, most int) *Strangers {
	return &Strangers{
		each: each, most: most, by: make(map[netip.Addr]*Bucket), all: NewBucket(all, all), rest: NewBucket(each, 5*each),
	}
}

// Take says whether one more request of that source is to be answered.
func (s *Strangers) Take(a netip.Addr, now time.Time) bool {
	if s.each <= 0 {
		return true
	}
	a = plain(a)
	if a.Is6() {
		p, _ := a.Prefix(64) // never fails for a valid length
		a = p.Addr()
	}
	s.mu.Lock()
	b := s.by[a]
	if b == nil {
		if len(s.by) >= s.most {
			s.sweep(now)
		}
		if len(s.by) >= s.most {
			b = s.rest
		} else {
			b = NewBucket(s.each, 5*s.each)
			s.by[a] = b
		}
	}
	s.mu.Unlock()
	return b.Take(1, now) && s.all.Take(1, now)
}

// sweep forgets the sources that have been quiet. It looks no more than once a second: a flood must not make it the work.
func (s *Strangers) sweep(now time.Time) {
	if now.Sub(s.swept) < time.Second {
		return
	}
	s.swept = now
	for a, b := range s.by {
		if b.full(now) {
			delete(s.by, a)
		}
	}
}
