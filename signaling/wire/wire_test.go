package wire_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sotto-edge/sotto/signaling/wire"
	"github.com/sotto-edge/sotto/signaling/wire/tsgen/ts"
)

func TestDecode(t *testing.T) {
	for text, want := range map[string]wire.Frame{
		`{"id":1,"type":"join","version":1,"token":"t","name":"n","publish":[{"source":"camera","codec":"vp8","simulcast":true}],"client":null,"later":{"a":[1]}}`: {
			ID: 1,
			Request: &wire.Join{
				Version: 1, Token: "t", Name: "n", Publish: []wire.Publication{{Source: wire.Camera, Codec: "vp8", Simulcast: true}},
			},
		},
		`{"type":"resume","version":1,"session":"s","resumeToken":"r","lastSeq":9007199254740991,"id":9007199254740991}`: {
			ID: wire.MaxSafeInteger, Request: &wire.Resume{Version: 1, Session: "s", ResumeToken: "r", LastSeq: wire.MaxSafeInteger},
		},
		` {"id" : 2 , "type":"subscribe","tracks":[]} `: {ID: 2, Request: &wire.Subscribe{Tracks: []string{}}},
		`{"id":9,"type":"view","views":[{"track":"t","width":320,"height":180},{"track":"u","width":0,"height":0,"pinned":true}]}`: {
			ID: 9, Request: &wire.View{Views: []wire.TrackView{{Track: "t", Width: 320, Height: 180}, {Track: "u", Pinned: true}}},
		},
		`{"id":3,"type":"leave"}`:                             {ID: 3, Request: &wire.Leave{}},
		`{"id":4,"type":"ping","lastSeq":12}`:                 {ID: 4, Request: &wire.Ping{LastSeq: 12}},
		`{"id":5,"type":"mute","track":"t1","muted":false}`:   {ID: 5, Request: &wire.Mute{Track: "t1"}},
		`{"id":6,"type":"chat","text":"\u3042\n"}`:            {ID: 6, Request: &wire.Chat{Text: "あ\n"}},
		`{"id":7,"type":"chat","text":"a","Text":5,"TEXT":5}`: {ID: 7, Request: &wire.Chat{Text: "a"}}, // names are exact
	} {
		got, err := wire.Decode([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	long := strings.Repeat("x", 2049)
	for _, c := range []struct {
		text string
		id   int64
		code wire.Code
		want string
	}{
		{``, 0, wire.BadRequest, "not a JSON object"},
		{`null`, 0, wire.BadRequest, "not a JSON object"},
		{`[]`, 0, wire.BadRequest, "not a JSON object"},
		{`{"id":1,"type":"leave"}x`, 0, wire.BadRequest, "not a JSON object"},
		{"{\"id\":1,\"type\":\"chat\",\"text\":\"\xff\"}", 0, wire.BadRequest, "not UTF-8"},
		{strings.Repeat(" ", wire.MaxFrameBytes+1), 0, wire.TooLarge, "65537 bytes"},
		{`{"type":"leave"}`, 0, wire.BadRequest, "field id is missing"},
		{`{"id":null,"type":"leave"}`, 0, wire.BadRequest, "field id is missing"},
		{`{"id":"1","type":"leave"}`, 0, wire.BadRequest, "field id: want an integer"},
		{`{"id":1.5,"type":"leave"}`, 0, wire.BadRequest, "field id: want an integer"},
		{`{"id":0,"type":"leave"}`, 0, wire.BadRequest, "field id: want a positive integer"},
		{`{"id":-1,"type":"leave"}`, 0, wire.BadRequest, "field id: want a positive integer"},
		{`{"id":9007199254740992,"type":"leave"}`, 0, wire.BadRequest, "field id: want an integer"},
		{`{"id":1}`, 1, wire.BadRequest, "field type is missing"},
		{`{"id":1,"type":7}`, 1, wire.BadRequest, "field type: want a string"},
		{`{"id":1,"type":"fly"}`, 1, wire.BadRequest, `unknown type "fly"`},
		{`{"id":1,"type":"` + long + `"}`, 1, wire.BadRequest, `xxx…"`},
		{`{"id":1,"type":"join.ok"}`, 1, wire.BadRequest, "unknown type"},
		{`{"id":1,"type":"chat"}`, 1, wire.BadRequest, "field text is missing"},
		{`{"id":1,"type":"chat","Text":"a"}`, 1, wire.BadRequest, "field text is missing"},
		{`{"id":1,"type":"chat","text":["a"]}`, 1, wire.BadRequest, "field text: want a string"},
		{`{"id":1,"type":"chat","text":"` + long + `"}`, 1, wire.TooLarge, "field text has 2049 bytes, 2048 are allowed"},
		{`{"id":1,"type":"mute","track":"t","muted":"yes"}`, 1, wire.BadRequest, "field muted: want a boolean"},
		{`{"id":1,"type":"mute","track":"t","muted":1}`, 1, wire.BadRequest, "field muted: want a boolean"},
		{`{"id":1,"type":"answer","number":"1","sdp":""}`, 1, wire.BadRequest, "field number: want an integer"},
		{`{"id":1,"type":"subscribe","tracks":"t"}`, 1, wire.BadRequest, "field tracks: want a list"},
		{`{"id":1,"type":"subscribe","tracks":["t",1]}`, 1, wire.BadRequest, "field tracks[1]: want a string"},
		{`{"id":1,"type":"subscribe","tracks":["t",null]}`, 1, wire.BadRequest, "field tracks[1] is missing"},
		{`{"id":1,"type":"subscribe","tracks":[` + strings.Repeat("1,", 64) + `1]}`, 1, wire.TooMany, "field tracks has 65 items, 64 are allowed"},
		{`{"id":1,"type":"view","views":[{"track":"t","width":1}]}`, 1, wire.BadRequest, "field views[0].height is missing"},
		{`{"id":1,"type":"view","views":[` + strings.Repeat("1,", 64) + `1]}`, 1, wire.TooMany, "field views has 65 items, 64 are allowed"},
		{`{"id":1,"type":"publish","publications":[{"source":"camera"},{"codec":"vp8"}]}`, 1, wire.BadRequest, "field publications[1].source is missing"},
		{`{"id":1,"type":"publish","publications":[{"source":"eye"}]}`, 1, wire.BadRequest, `field publications[0].source: "eye" is none of microphone, camera, screen, screen-audio`},
		{`{"id":1,"type":"publish","publications":[[]]}`, 1, wire.BadRequest, "field publications[0]: want an object"},
		{`{"id":1,"type":"publish","publications":[{"source":"camera","codec":"` + long + `"}]}`, 1, wire.TooLarge, "field publications[0].codec has 2049 characters"},
		{`{"id":1,"type":"join","version":1,"token":"t","name":"` + strings.Repeat("é", 65) + `"}`, 1, wire.TooLarge, "field name has 65 characters, 64 are allowed"},
		{`{"id":1,"type":"moderate","action":"ban","participant":"p"}`, 1, wire.BadRequest, "is none of mute, remove"},
	} {
		f, err := wire.Decode([]byte(c.text))
		if err == nil {
			t.Errorf("%.80s: no error", c.text)
			continue
		}
		if f.ID != c.id || f.Request != nil || err.Code != c.code || !strings.Contains(err.Message, c.want) {
			t.Errorf("%.80s: id %d, %v; want id %d, %s, %q", c.text, f.ID, err, c.id, c.code, c.want)
		}
	}
}

func TestDecodeBody(t *testing.T) {
	var r wire.TokenRequest
	if err := wire.DecodeBody([]byte(`{"name":"Ada","other":1}`), &r); err != nil || r.Name != "Ada" {
		t.Errorf("%+v, %v", r, err)
	}
	if err := wire.DecodeBody([]byte(`{"name":5}`), &r); err == nil || err.Code != wire.BadRequest {
		t.Errorf("%v", err)
	}
}

// filled returns a value of a message type in which every field differs from zero.
func filled(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	fill(v)
	return v.Addr()
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.String:
		v.SetString("\"<é>\n")
		if e, ok := v.Interface().(interface{ Values() []string }); ok {
			v.SetString(e.Values()[0])
		}
	case reflect.Bool:
		v.SetBool(true)
	default:
		v.SetInt(7)
	}
}

// Every message survives its own encoding.
func TestRoundTrips(t *testing.T) {
	for _, r := range wire.Requests() {
		want := filled(reflect.TypeOf(r).Elem()).Interface().(wire.Request)
		text, err := wire.EncodeRequest(5, want)
		if err != nil {
			t.Fatal(err)
		}
		got, refusal := wire.Decode(text)
		if refusal != nil {
			t.Errorf("%s: %v", text, refusal)
			continue
		}
		if diff := cmp.Diff(wire.Frame{ID: 5, Request: want}, got); diff != "" {
			t.Errorf("%s (-sent +received):\n%s", r.Kind(), diff)
		}
	}
	for _, r := range wire.Replies() {
		want := filled(reflect.TypeOf(r).Elem()).Interface().(wire.Reply)
		text, err := wire.EncodeReply(5, want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.DecodeServer(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(wire.ServerFrame{Re: 5, Reply: want, Kind: r.Kind()}, got); diff != "" {
			t.Errorf("%s (-sent +received):\n%s", r.Kind(), diff)
		}
	}
	for _, e := range wire.Events() {
		want := filled(reflect.TypeOf(e).Elem()).Interface().(wire.Event)
		body, err := wire.EncodeEvent(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.DecodeServer(body.Frame(nil, 9))
		if err != nil {
			t.Errorf("%s: %v", e.Kind(), err)
		}
		if diff := cmp.Diff(wire.ServerFrame{Seq: 9, Event: want, Kind: e.Kind()}, got); diff != "" {
			t.Errorf("%s (-sent +received):\n%s", e.Kind(), diff)
		}
	}
}

// A client that expects a list must not meet null.
func TestNoNulls(t *testing.T) {
	for _, r := range wire.Replies() {
		if text, err := wire.EncodeReply(1, r); err != nil || strings.Contains(string(text), "null") || !json.Valid(text) {
			t.Errorf("%s, %v", text, err)
		}
	}
	for _, e := range wire.Events() {
		if body, err := wire.EncodeEvent(e); err != nil || strings.Contains(string(body.Frame(nil, 1)), "null") {
			t.Errorf("%s, %v", body.Frame(nil, 1), err)
		}
	}
	text, err := wire.EncodeReply(1, &wire.JoinOK{Roster: []wire.Participant{{ID: "p"}}})
	if err != nil || !strings.Contains(string(text), `"tracks":[]`) {
		t.Errorf("%s, %v", text, err)
	}
}

func TestDecodeServer(t *testing.T) {
	f, err := wire.DecodeServer([]byte(`{"seq":4,"type":"fireworks","x":1}`))
	if err != nil || f.Event != nil || f.Seq != 4 || f.Kind != "fireworks" {
		t.Errorf("an event of the future: %+v, %v", f, err)
	}
	for _, text := range []string{``, `{}`, `{"re":1,"type":"fireworks"}`, `{"re":1,"type":"chat.ok","at":"x"}`, `{"seq":1,"type":"chat","at":"x"}`} {
		if _, err := wire.DecodeServer([]byte(text)); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func TestErrorMatchesByCode(t *testing.T) {
	err := fmt.Errorf("around: %w", &wire.Error{Code: wire.RoomFull, Message: "full"})
	if !errors.Is(err, &wire.Error{Code: wire.RoomFull}) || errors.Is(err, &wire.Error{Code: wire.NotFound}) {
		t.Error("matches wrongly")
	}
	if !strings.Contains(err.Error(), "wire: room_full: full") {
		t.Error(err)
	}
}

// The web client's types are what the Go types say. Mend by: go generate ./signaling/wire
func TestGeneratedTypes(t *testing.T) {
	want, err := ts.Generate(".")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("..", "..", "web", "src", "wire.ts"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("web/src/wire.ts is not what the generator writes (-generator +file):\n%s", diff)
	}
}

// docs/signaling.md names every message with its fields, every code and every close code.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "signaling.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for part := range strings.SplitSeq(string(page), "\n### ") {
		heading, body, _ := strings.Cut(part, "\n")
		body, _, _ = strings.Cut(body, "\n## ")
		sections[strings.ReplaceAll(heading, "`", "")] = body
	}
	check := func(heading string, message any) {
		t.Helper()
		body, ok := sections[heading]
		if !ok {
			t.Errorf("no section for %s", heading)
			return
		}
		for f := range reflect.TypeOf(message).Elem().Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !strings.Contains(body, "`"+name+"`") {
				t.Errorf("%s: field %s is not named", heading, name)
			}
		}
	}
	for _, r := range wire.Requests() {
		check(r.Kind(), r)
	}
	for _, r := range wire.Replies() {
		if k := strings.TrimSuffix(r.Kind(), ".ok"); k != "error" {
			check(k, r) // beside its request
		}
	}
	for _, e := range wire.Events() {
		check("Event "+e.Kind(), e)
	}
	for name, v := range map[string]any{
		"Participant": &wire.Participant{}, "Track": &wire.Track{}, "Publication": &wire.Publication{}, "Limits": &wire.Limits{},
		"ICEServer": &wire.ICEServer{}, "OfferSection": &wire.OfferSection{}, "Slot": &wire.Slot{}, "OwnTrack": &wire.OwnTrack{},
		"TrackView": &wire.TrackView{}, "TrackQuality": &wire.TrackQuality{}, "RecordingState": &wire.RecordingState{},
		"Error": &wire.Error{},
	} {
		check("Type "+name, v)
	}
	check("POST /api/v1/meetings", &wire.Meeting{})
	check("POST /api/v1/meetings/{room}/token", &wire.TokenRequest{})
	check("POST /api/v1/meetings/{room}/token", &wire.TokenReply{})
	check("POST /api/v1/meetings/{room}/watch-token", &wire.WatchRequest{})
	check("POST /api/v1/meetings/{room}/watch-token", &wire.WatchReply{})
	for _, values := range [][]string{
		wire.Code("").Values(), wire.Source("").Values(), wire.Action("").Values(), wire.Role("").Values(), wire.Kind("").Values(),
		wire.MediaState("").Values(), wire.Grade("").Values(), wire.LeftReason("").Values(), wire.RemovedReason("").Values(), wire.RecordingEnd("").Values(),
		wire.DataState("").Values(), wire.DataReason("").Values(),
	} {
		for _, v := range values {
			if !strings.Contains(string(page), "`"+v+"`") {
				t.Errorf("value %s is not named", v)
			}
		}
	}
	for _, code := range []int{
		wire.CloseNormal, wire.CloseGoingAway, wire.CloseViolation, wire.CloseTooBig, wire.CloseTakenOver, wire.CloseSlow,
		wire.CloseRemoved, wire.CloseExpired,
	} {
		if !strings.Contains(string(page), fmt.Sprintf("| %d |", code)) {
			t.Errorf("close code %d is not named", code)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range wire.Requests() {
		text, err := wire.EncodeRequest(1, filled(reflect.TypeOf(r).Elem()).Interface().(wire.Request))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"id":1,"type":"publish","publications":[{"source":"camera"},{"codec":"vp8"}]}`))
	f.Add([]byte(`{"id":1e3,"type":"leave"}`))
	f.Add([]byte(`{"id":1,"type":"join","version":1,"token":"x","name":"x","publish":[]}`))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, text []byte) {
		frame, refusal := wire.Decode(text)
		if refusal != nil {
			if !slices.Contains(wire.Code("").Values(), string(refusal.Code)) || len(refusal.Message) > 512 || frame.Request != nil {
				t.Fatalf("%+v", refusal)
			}
			return
		}
		// What was decoded is what its own encoding decodes to.
		again, err := wire.EncodeRequest(frame.ID, frame.Request)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > wire.MaxFrameBytes {
			return // escapes may make it longer
		}
		second, refusal := wire.Decode(again)
		if refusal != nil {
			t.Fatalf("%s became %s: %v", text, again, refusal)
		}
		// An empty list and none are the same to everybody who reads them.
		if diff := cmp.Diff(frame, second, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-first +second):\n%s", diff)
		}
	})
}

func FuzzDecodeServer(f *testing.F) {
	for _, r := range wire.Replies() {
		text, err := wire.EncodeReply(1, filled(reflect.TypeOf(r).Elem()).Interface().(wire.Reply))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"seq":1,"type":"offer"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		frame, err := wire.DecodeServer(text)
		if err == nil && frame.Reply != nil && frame.Event != nil {
			t.Fatal("both a reply and an event")
		}
	})
}
