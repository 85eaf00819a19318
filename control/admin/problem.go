package admin

import (
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Problem is the body of every refusal (RFC 9457 §3), with a code for
// programs and a hint for people.
type Problem struct {
	huma.ErrorModel
	Code string `json:"code"`
	Hint string `json:"hint,omitempty"`
}

func problem(status int, detail, hint string) *Problem {
	return &Problem{
		ErrorModel: huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail},
		Code:       code(status), Hint: hint,
	}
}

// code returns the stable name of a refusal: the same words as signaling's.
func code(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "unauthorized"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return "not_found"
	case http.StatusConflict:
		return "conflict"
	case http.StatusRequestEntityTooLarge:
		return "too_large"
	case http.StatusTooManyRequests:
		return "rate_limited"
	}
	if status >= 500 {
		return "internal"
	}
	return "bad_request"
}

// refuse answers a request that no operation has seen.
func refuse(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that went away is none of ours
}

// withCode gives the refusals that huma makes itself, for what does not fit
// the schema, the form of all others.
func withCode(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	return &Problem{
		ErrorModel: *m, Code: code(m.Status), Hint: "GET /admin/v1/openapi.json describes what is accepted",
	}, nil
}

// describeProblems adds to the description what withCode adds to the bodies.
func describeProblems(api *huma.OpenAPI) {
	model := api.Components.Schemas.Map()["ErrorModel"]
	model.Properties["code"] = &huma.Schema{Type: huma.TypeString, Description: "Stable name of the refusal, for programs."}
	model.Properties["hint"] = &huma.Schema{Type: huma.TypeString, Description: "What to do about it."}
	model.Required = append(model.Required, "code")
}
