// Package auth decides whose a TURN request is.
//
// It owns the three kinds of credentials: users of the configuration, time-limited ones that anybody makes who shares a secret with
// the server, and the tokens of the appliance's own sign-in; and the nonces, which prove their own age.
//
// It promises that no key can be printed or marshalled, that comparisons take constant time, and that nothing is kept of requests:
// a nonce or a user name made up by a stranger costs its computation and no memory. It does not read packets from a network, does
// not count, and does not know what a user may do.
package auth

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/secure/precis"

	"github.com/sotto-edge/sotto/internal/redact"
	"github.com/sotto-edge/sotto/internal/token"
)

// Errors that callers match: they are counted by reason.
var (
	ErrUnknown = errors.New("auth: no such user")
	ErrExpired = errors.New("auth: the credentials have expired")
)

// MaxUsername is the longest user name (RFC 8489 §14.3), in bytes.
const MaxUsername = 508

// Secret is text that must not be printed: a password or a shared secret.
type Secret struct {
	redact.Guard
	text *string
}

// NewSecret hides a text.
func NewSecret(text string) Secret { return Secret{text: &text} }

// IsZero says whether it is no secret, or an empty one.
func (s Secret) IsZero() bool { return s.text == nil || *s.text == "" }

// User is a user of the configuration.
type User struct {
	Name     string
	Password Secret
}

// Config is what an Authority is made of. One with no credentials at all refuses everybody.
type Config struct {
	// Realm is what users and passwords belong to.
	Realm string
	// Users have their password in the configuration.
	Users []User
	// Secrets are shared with whoever hands out time-limited credentials: the user name is "<expiry>:<user>", the password the
	// base64 of its HMAC-SHA1, as for coturn's use-auth-secret. The first one makes credentials, all are believed: during a change
	// there are two.
	Secrets []Secret
	// Tokens makes the sign-in tokens of the appliance; nil: none are believed. See Halves.
	Tokens *token.Signer
	// Audiences are those whose tokens open the relay.
	Audiences []token.Audience
}

// Authority knows the credentials. It is immutable and may be used by many goroutines.
type Authority struct {
	cfg    Config
	users  map[string]Secret
	hashes map[[sha256.Size]byte]string
}

// New checks the configuration.
func New(cfg Config) (*Authority, error) {
	cfg.Realm = prepared(cfg.Realm)
	if cfg.Realm == "" || len(cfg.Realm) > 127 || strings.ContainsAny(cfg.Realm, "\"\\") {
		return nil, errors.New("auth: the realm must be 1 to 127 bytes without quotes")
	}
	a := &Authority{cfg: cfg, users: make(map[string]Secret), hashes: make(map[[sha256.Size]byte]string)}
	for _, u := range cfg.Users {
		u.Name = prepared(u.Name)
		if u.Name == "" || len(u.Name) > MaxUsername || strings.Contains(u.Name, ":") {
			return nil, fmt.Errorf("auth: user %q: a name has 1 to %d bytes and no colon", u.Name, MaxUsername)
		}
		if u.Password.IsZero() {
			return nil, fmt.Errorf("auth: user %q has no password", u.Name)
		}
		if _, twice := a.users[u.Name]; twice {
			return nil, fmt.Errorf("auth: user %q is there twice", u.Name)
		}
		a.users[u.Name] = NewSecret(prepared(*u.Password.text))
		a.hashes[UserHash(u.Name, cfg.Realm)] = u.Name
	}
	for _, s := range cfg.Secrets {
		if s.IsZero() {
			return nil, errors.New("auth: an empty shared secret lets everybody in")
		}
	}
	return a, nil
}

// prepared is a text as clients have it in keys and on the wire (RFC 8489 §9.2.2): however it was typed, it has one form. What the
// profile does not allow stays as it is.
func prepared(text string) string {
	out, err := precis.OpaqueString.String(text)
	if err != nil {
		return text
	}
	return out
}

// Realm returns the realm.
func (a *Authority) Realm() string { return a.cfg.Realm }

// Anonymous says whether every user can be told by the hash of the name alone.
func (a *Authority) Anonymous() bool {
	return len(a.users) > 0 && len(a.cfg.Secrets) == 0 && a.cfg.Tokens == nil
}

// Candidate is one credential that a user name may stand for.
type Candidate struct {
	// User is who is behind the name: what quotas count. Names of time-limited credentials of one user differ.
	User string
	// Key is what the user signs with.
	Key Key
}

// Candidates appends to dst what the user name may stand for at the time now. Which of them it is, the integrity of the request
// says. Of somebody who holds an allocation already the expiry is not looked at: a meeting may outlast the credentials it began
// with, and clients never get new ones.
func (a *Authority) Candidates(dst []Candidate, username string, alg Algorithm, now time.Time, holds bool) ([]Candidate, error) {
	if password, ok := a.users[username]; ok {
		return append(dst, Candidate{username, NewKey(username, a.cfg.Realm, *password.text, alg)}), nil
	}
	if len(username) == 0 || len(username) > MaxUsername {
		return dst, ErrUnknown
	}
	if strings.HasPrefix(username, tokenPrefix) && a.cfg.Tokens != nil {
		return a.token(dst, username, alg, now, holds)
	}
	text, user, _ := strings.Cut(username, ":")
	expires, err := strconv.ParseInt(text, 10, 64)
	if err != nil || expires <= 0 || len(a.cfg.Secrets) == 0 {
		return dst, ErrUnknown
	}
	if expires <= now.Unix() && !holds {
		return dst, ErrExpired
	}
	if user == "" {
		user = username
	}
	for _, s := range a.cfg.Secrets {
		dst = append(dst, Candidate{user, NewKey(username, a.cfg.Realm, s.password(username), alg)})
	}
	return dst, nil
}

// password is that of a time-limited user name.
func (s Secret) password(username string) string {
	mac := hmac.New(sha1.New, []byte(*s.text))
	mac.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// tokenPrefix is how the tokens of package token begin.
const tokenPrefix = "st1."

// token finds the credentials that a sign-in token is.
func (a *Authority) token(dst []Candidate, username string, alg Algorithm, now time.Time, holds bool) ([]Candidate, error) {
	whole, password := a.cfg.Tokens.Complete(username)
	err := ErrUnknown
	for _, audience := range a.cfg.Audiences {
		claims, refused := a.cfg.Tokens.Verifier().Verify(whole, audience, now)
		if refused == nil || holds && errors.Is(refused, token.ErrExpired) {
			user := claims.ID
			if user == "" {
				user = username
			}
			return append(dst, Candidate{user, NewKey(username, a.cfg.Realm, password, alg)}), nil
		}
		if errors.Is(refused, token.ErrExpired) {
			err = ErrExpired
		}
	}
	return dst, err
}

// Halves makes a sign-in token the user name and the password of TURN: what it says, and the signature, which is never sent. The
// server, which can sign, completes the first half.
func Halves(signIn string) (username, password string, ok bool) {
	at := strings.LastIndexByte(signIn, '.')
	if at < len(tokenPrefix) || at > MaxUsername {
		return "", "", false
	}
	return signIn[:at], signIn[at+1:], true
}

// UserHash is the value of USERHASH (RFC 8489 §14.4).
func UserHash(username, realm string) [sha256.Size]byte {
	return sha256.Sum256([]byte(username + ":" + realm))
}

// ByHash returns the user of the configuration whose hash it is.
func (a *Authority) ByHash(hash [sha256.Size]byte) (string, bool) {
	name, ok := a.hashes[hash]
	return name, ok
}

// Credentials is a time-limited user name with its password, for somebody to whom both are handed out.
type Credentials struct {
	Username string
	Password string
	Expires  time.Time
}

// Issue makes time-limited credentials for a user, good until expires. It fails without a shared secret.
func (a *Authority) Issue(user string, expires time.Time) (Credentials, error) {
	if len(a.cfg.Secrets) == 0 {
		return Credentials{}, errors.New("auth: issue: there is no shared secret")
	}
	name := strconv.FormatInt(expires.Unix(), 10) + ":" + user
	if user == "" || len(name) > MaxUsername {
		return Credentials{}, fmt.Errorf("auth: issue: the user must have 1 to %d bytes", MaxUsername-20)
	}
	return Credentials{name, a.cfg.Secrets[0].password(name), expires.Truncate(time.Second)}, nil
}
