package wire

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
)

// Body is an encoded event without its seq, so that one encoding serves every session that gets the event.
type Body struct{ text []byte }

// Len returns the size of the encoding.
func (b Body) Len() int { return len(b.text) }

// EncodeEvent encodes an event. Lists that are nil are sent as empty ones.
func EncodeEvent(e Event) (Body, error) {
	text, err := tagged(e.Kind(), e)
	return Body{text}, err
}

// Frame appends the event's frame with its seq to dst.
func (b Body) Frame(dst []byte, seq int64) []byte {
	dst = append(dst, `{"seq":`...)
	dst = strconv.AppendInt(dst, seq, 10)
	return append(dst, b.text...)
}

// EncodeReply returns the frame that answers the request with that id.
func EncodeReply(re int64, r Reply) ([]byte, error) {
	text, err := tagged(r.Kind(), r)
	if err != nil {
		return nil, err
	}
	dst := append(make([]byte, 0, len(text)+24), `{"re":`...)
	dst = strconv.AppendInt(dst, re, 10)
	return append(dst, text...), nil
}

// EncodeRequest returns the frame of a request: what clients in Go send.
func EncodeRequest(id int64, r Request) ([]byte, error) {
	text, err := tagged(r.Kind(), r)
	if err != nil {
		return nil, err
	}
	dst := append(make([]byte, 0, len(text)+24), `{"id":`...)
	dst = strconv.AppendInt(dst, id, 10)
	return append(dst, text...), nil
}

// tagged returns the rest of an object behind its first field: `,"type":"…",…}`.
func tagged(kind string, message any) ([]byte, error) {
	fillLists(reflect.ValueOf(message).Elem())
	text, err := json.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("wire: encode %s: %w", kind, err)
	}
	dst := append(make([]byte, 0, len(text)+len(kind)+12), `,"type":"`...)
	dst = append(dst, kind...)
	dst = append(dst, '"')
	if len(text) > len("{}") {
		dst = append(dst, ',')
	}
	return append(dst, text[1:]...), nil
}

// fillLists replaces nil slices by empty ones, because a client that expects a list must not meet null. Optional lists stay nil:
// they are left out.
func fillLists(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fillLists(v.Field(i))
		}
	case reflect.Slice:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		if k := v.Type().Elem().Kind(); k == reflect.Struct {
			for i := range v.Len() {
				fillLists(v.Index(i))
			}
		}
	}
}

// ServerFrame is what a client receives: a Reply with the id of its request, or an Event with its seq.
type ServerFrame struct {
	Re    int64
	Reply Reply
	Seq   int64
	Event Event // nil for a type that this version does not know; Kind has its name
	Kind  string
}

var replyTypes, eventTypes = func() (map[string]reflect.Type, map[string]reflect.Type) {
	replies, events := map[string]reflect.Type{}, map[string]reflect.Type{}
	for _, r := range Replies() {
		replies[r.Kind()] = reflect.TypeOf(r).Elem()
	}
	for _, e := range Events() {
		events[e.Kind()] = reflect.TypeOf(e).Elem()
	}
	return replies, events
}()

// DecodeServer reads a server's frame: what clients in Go receive. It is lenient where Decode is strict, so that an older client
// may talk to a newer server: unknown fields, values and events pass.
func DecodeServer(text []byte) (ServerFrame, error) {
	var head struct {
		Re   *int64 `json:"re"`
		Seq  *int64 `json:"seq"`
		Type string `json:"type"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return ServerFrame{}, fmt.Errorf("wire: decode a server's frame: %w", err)
	}
	f := ServerFrame{Kind: head.Type}
	switch {
	case head.Re != nil:
		f.Re = *head.Re
		t, ok := replyTypes[head.Type]
		if !ok {
			return f, fmt.Errorf("wire: unknown reply %q", head.Type)
		}
		v := reflect.New(t)
		if err := json.Unmarshal(text, v.Interface()); err != nil {
			return f, fmt.Errorf("wire: decode %s: %w", head.Type, err)
		}
		f.Reply = v.Interface().(Reply)
	case head.Seq != nil:
		f.Seq = *head.Seq
		t, ok := eventTypes[head.Type]
		if !ok {
			return f, nil
		}
		v := reflect.New(t)
		if err := json.Unmarshal(text, v.Interface()); err != nil {
			return f, fmt.Errorf("wire: decode %s: %w", head.Type, err)
		}
		f.Event = v.Interface().(Event)
	default:
		return f, fmt.Errorf("wire: a server's frame has neither re nor seq")
	}
	return f, nil
}
