package backup_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"testing"

	"filippo.io/age"
)

// sealed makes an encrypted archive of entries, each a name and its content.
func sealed(t *testing.T, key *age.X25519Identity, entries ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := age.Encrypt(&out, key.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewWriter(w)
	for i := 0; i < len(entries); i += 2 {
		if err := archive.WriteHeader(&tar.Header{Name: entries[i], Size: int64(len(entries[i+1])), Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(entries[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
