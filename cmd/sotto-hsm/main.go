// Command sotto-hsm keeps the root key of a KMS in a hardware module, through PKCS#11. The KMS starts it and speaks to it over its input and
// output (kms/seal, StartHelper). It is a program of its own because a module's library is C: the appliance stays pure Go, and the
// library out of the process that has keys in memory.
//
// The key in the module is an AES-256 key that is sensitive and not extractable; another one is refused. Root keys are wrapped by
// AES-GCM (PKCS#11 v2.40, CKM_AES_GCM) with the place as additional data.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"

	"github.com/sotto-edge/sotto/kms/seal"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sotto-hsm:", err)
		os.Exit(1)
	}
}

func run() error {
	library := flag.String("module", "", "path of the PKCS#11 library")
	token := flag.String("token", "", "label of the token")
	label := flag.String("key", "sotto-kms", "label of the key")
	pinFile := flag.String("pin-file", "", "file whose first line is the PIN")
	create := flag.Bool("create", false, "make the key, which must not be there, and end")
	flag.Parse()
	text, err := os.ReadFile(*pinFile)
	if err != nil {
		return err
	}
	pin, _, _ := bytes.Cut(text, []byte("\n"))
	m, err := open(*library, *token, string(pin), *label, *create)
	clear(text)
	if err != nil || *create {
		return err
	}
	defer m.close()
	return seal.ServeModule(os.Stdin, os.Stdout, m)
}
