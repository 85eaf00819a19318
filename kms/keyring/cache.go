package keyring

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/kms/wire"
)

// cache remembers releases, for the time in which the database is away. Whoever takes something away from somebody calls drop before and after
// the transaction: what was read before that is neither kept nor put in later.
type cache struct {
	most   int
	window time.Duration
	seed   maphash.Seed

	mu      sync.Mutex
	entries map[ticket]*cached
	order   []ticket // as they came, some of them gone
	changes [256]uint64
}

// ticket is who was given what.
type ticket struct {
	subject, service, via, key string
}

type cached struct {
	key wire.Key // the cache's own
	at  time.Time
}

func newCache(most int, window time.Duration) *cache {
	return &cache{most: most, window: window, seed: maphash.MakeSeed(), entries: map[ticket]*cached{}}
}

func (c *cache) shard(resource string) *uint64 {
	return &c.changes[maphash.String(c.seed, resource)%uint64(len(c.changes))]
}

// state is to be asked for before a release is read, and handed to put after it.
func (c *cache) state() [256]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes
}

// put remembers a release, unless something was taken away since.
func (c *cache) put(t ticket, key wire.Key, at time.Time, before *[256]uint64) {
	resource := key.Resource.String()
	own, err := wire.NewMaterial(key.Material.Expose())
	if err != nil {
		return // a key without bytes
	}
	key.Material = own
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := maphash.String(c.seed, resource) % uint64(len(c.changes)); c.changes[i] != before[i] {
		own.Wipe()
		return
	}
	if old := c.entries[t]; old != nil {
		old.key.Wipe()
	} else {
		c.order = append(c.order, t)
	}
	c.entries[t] = &cached{key, at}
	for len(c.order) > c.most {
		c.remove(c.order[0])
		c.order = c.order[1:]
	}
}

func (c *cache) remove(t ticket) {
	if e := c.entries[t]; e != nil {
		e.key.Wipe()
		delete(c.entries, t)
	}
}

// get returns a copy of what was released to the same caller within the window. What is dated later than now was read before the clock was set
// back: nobody knows how old it is.
func (c *cache) get(t ticket, now time.Time) (wire.Key, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[t]
	if e == nil {
		return wire.Key{}, false
	}
	if age := now.Sub(e.at); age < 0 || age > c.window {
		c.remove(t)
		return wire.Key{}, false
	}
	key := e.key
	m, err := wire.NewMaterial(e.key.Material.Expose())
	key.Material = m
	return key, err == nil
}

// drop forgets everything of a resource.
func (c *cache) drop(resource wire.URI) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.shard(resource.String())++
	for t, e := range c.entries {
		if e.key.Resource == resource {
			c.remove(t)
		}
	}
	c.compact()
}

// dropServices forgets everything that a type of service was given.
func (c *cache) dropServices(service string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.changes {
		c.changes[i]++
	}
	for t := range c.entries {
		if t.service == service {
			c.remove(t)
		}
	}
	c.compact()
}

// compact keeps the order about as long as the entries are many.
func (c *cache) compact() {
	if len(c.order) < 2*len(c.entries)+64 {
		return
	}
	kept := c.order[:0]
	for _, t := range c.order {
		if c.entries[t] != nil {
			kept = append(kept, t)
		}
	}
	c.order = kept
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t := range c.entries {
		c.remove(t)
	}
	c.order = nil
}
