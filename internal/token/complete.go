package token

import "crypto/ed25519"

// Complete signs again what a token says: the token up to its last dot. It returns the whole token, whose claims are still to be
// verified, and the signature alone. Who knows the signature of a text that only this signer can sign was given the token, so the
// signature serves as a password where one is needed (TURN).
func (s *Signer) Complete(signed string) (token, signature string) {
	if len(signed) > MaxLen {
		return signed, ""
	}
	signature = encoding.EncodeToString(ed25519.Sign(s.key, []byte(signed)))
	return signed + "." + signature, signature
}
