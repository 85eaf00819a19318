package turn

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sotto-edge/sotto/turn/auth"
	"github.com/sotto-edge/sotto/turn/policy"
)

// Realm is a world of users of its own: other credentials, other peers, quotas that the others do not feel.
type Realm struct {
	Auth  *auth.Authority // its name is that of the realm
	Peers *policy.Peers
	// Serves says who is asked for credentials of this realm: clients that reach the server at one of these addresses, by one of
	// these TLS server names, or from pages of one of these origins (draft-johnston-tram-stun-origin). Whoever names the realm in
	// a request is asked for them, too.
	Serves []string
	// Allocations, UserAllocations, UserBytes, RealmBytes and Permissions count, with the defaults of Limits, none for Allocations.
	Limits Limits
}

// realm is a Realm at work.
type realm struct {
	Realm
	name        string
	index       int
	nonces      *auth.Nonces
	bytes       *policy.Bucket
	allocations int // under the table's lock
}

func newRealm(r Realm, index int) *realm {
	features := auth.PasswordAlgorithms
	if r.Auth.Anonymous() {
		features |= auth.UsernameAnonymity
	}
	if index > 0 && r.Limits.Allocations == 0 {
		r.Limits.Allocations = -1
	}
	r.Limits.defaults()
	rate := max(0, r.Limits.RealmBytes)
	return &realm{Realm: r, name: r.Auth.Realm(), index: index, nonces: auth.NewNonces(features), bytes: policy.NewBucket(rate, rate)}
}

// id is what the library knows a user by.
func (r *realm) id(user string) string { return strconv.Itoa(r.index) + ":" + user }

// named returns the realm of a name.
func (s *Server) named(name string) *realm {
	for _, r := range s.realms {
		if r.name == name {
			return r
		}
	}
	return nil
}

// byID is the inverse of id.
func (s *Server) byID(id string) (r *realm, user string) {
	index, user, _ := strings.Cut(id, ":")
	i, err := strconv.Atoi(index)
	if err != nil || i < 0 || i >= len(s.realms) {
		return s.realms[0], id
	}
	return s.realms[i], user
}

// welcome returns the realm whose credentials a client is asked for that has named none.
func (s *Server) welcome(from source, origin string) *realm {
	if len(s.realms) == 1 {
		return s.realms[0]
	}
	_, host, _ := strings.Cut(origin, "://")
	for _, r := range s.realms[1:] {
		for _, who := range r.Serves {
			switch {
			case who == "":
			case strings.EqualFold(who, from.name), origin != "" && (strings.EqualFold(who, origin) || strings.EqualFold(who, host)):
				return r
			default:
				if a, err := netip.ParseAddr(who); err == nil && (a == from.server.Addr() || a == from.path.Local) {
					return r
				}
			}
		}
	}
	return s.realms[0]
}

// spend says whether n bytes of a user are within all limits.
func (u *user) spend(n float64, now time.Time) bool {
	return u.bytes.Take(n, now) && u.realm.bytes.Take(n, now)
}

// spent takes n bytes that have been relayed already, and says whether they were within all limits.
func (u *user) spent(n float64, now time.Time) bool {
	mine := u.bytes.Spend(n, now)
	return u.realm.bytes.Spend(n, now) && mine
}
