package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/sotto-edge/sotto/signaling/wire"
)

// maxBody bounds what is read of an HTTP answer.
const maxBody = 64 << 10

// OpenMeeting makes a new room. Who may: anybody on the server's own machine; elsewhere bearer must be the owner token, or one that
// the admin API made.
func OpenMeeting(ctx context.Context, server string, cfg *tls.Config, bearer string) (wire.Meeting, error) {
	transport := &http.Transport{TLSClientConfig: cfg}
	defer transport.CloseIdleConnections()
	var m wire.Meeting
	err := post(ctx, &http.Client{Transport: transport}, strings.TrimSuffix(server, "/")+"/api/v1/meetings", bearer, wire.MeetingRequest{}, &m)
	return m, err
}

func (c *Client) joinToken(ctx context.Context) (wire.TokenReply, error) {
	var t wire.TokenReply
	path := c.base.String() + "/api/v1/meetings/" + url.PathEscape(c.cfg.Room) + "/token"
	err := post(ctx, c.http, path, "", wire.TokenRequest{HostToken: c.cfg.HostToken}, &t)
	return t, err
}

func post(ctx context.Context, client *http.Client, target, bearer string, body, out any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("client: read the answer of %s: %w", r.URL.Path, err)
	}
	if resp.StatusCode >= 400 {
		var refusal wire.HTTPError
		if json.Unmarshal(answer, &refusal) == nil && refusal.Error.Code != "" {
			return fmt.Errorf("client: %w", &refusal.Error)
		}
		return fmt.Errorf("client: %s answers %s", r.URL.Path, resp.Status)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("client: the answer of %s: %w", r.URL.Path, err)
	}
	return nil
}
