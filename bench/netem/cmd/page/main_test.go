package main

import (
	"strings"
	"testing"
)

func TestConvert(t *testing.T) {
	var out strings.Builder
	err := convert(strings.NewReader(`{"Title":"5 % loss","Figures":[{"Name":"held","Value":"9 of 10"}],
		"Charts":[{"Title":"Rate","Series":[{"Name":"down","Points":[{"X":0,"Y":1},{"X":1,"Y":2}]}]}]}`), &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<h1>5 % loss</h1>", "9 of 10", "<svg"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for _, bad := range []string{"", "{", `{"Tittle":"x"}`} {
		if err := convert(strings.NewReader(bad), &out); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
