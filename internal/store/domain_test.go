package store

import (
	"strings"
	"testing"
)

func TestNumber(t *testing.T) {
	for in, want := range map[string]string{
		"SELECT 1":                         "SELECT 1",
		"a = ? AND b = ?":                  "a = $1 AND b = $2",
		"a = '?' AND b = ?":                "a = '?' AND b = $1",
		`"?" = ? -- ?` + "\n, ?":           `"?" = $1 -- ?` + "\n, $2",
		"'it''s ?', ?":                     "'it''s ?', $1",
		"/* ? */ ? /* ? ":                  "/* ? */ $1 /* ? ",
		"'open ?":                          "'open ?",
		"?,?,?,?,?,?,?,?,?,?,?":            "$1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11",
		"x -- to the end, without a line?": "x -- to the end, without a line?",
	} {
		if got := number(in); got != want {
			t.Errorf("number(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestDomainName(t *testing.T) {
	for _, name := range []string{"", "Big", "1st", "a b", "a;drop", strings.Repeat("a", 32)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was taken as a name", name)
				}
			}()
			NewDomain(name, nil)
		}()
	}
}
