package seal_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/sotto-edge/sotto/kms/seal"
)

// The vectors of c2sp.org/XAES-256-GCM, one for each value of the bit that the derivation looks at.
func TestXAES(t *testing.T) {
	for _, v := range []struct {
		key       byte
		aad, want string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		got, err := seal.SealXAES(bytes.Repeat([]byte{v.key}, 32), []byte("ABCDEFGHIJKLMNOPQRSTUVWX"), []byte("XAES-256-GCM"), []byte(v.aad))
		if err != nil || hex.EncodeToString(got) != v.want {
			t.Errorf("key %d: %x, %v; want %s", v.key, got, err, v.want)
		}
	}
}
