package soak

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/harness"
)

// work is what clients do, by name. Each piece takes milliseconds. The context has
// no end while a piece is under way: what is broken off would prove nothing.
func (w *world) work() map[string]func(context.Context) error {
	calls := func(path, tool, token string, statuses ...int) func(context.Context) error {
		return func(ctx context.Context) error {
			got, err := w.call(ctx, path, tool, token)
			return want(got, err, statuses...)
		}
	}
	return map[string]func(context.Context) error{
		"calls":                          calls(endpoint(serverJSON), measure.Tool, w.token, http.StatusOK),
		"calls answered by a stream":     calls(endpoint(serverSSE), measure.Tool, w.token, http.StatusOK),
		"calls of a child process":       calls(endpoint(serverStdio), measure.Tool, w.token, http.StatusOK),
		"calls through /mcp":             calls("/mcp", serverJSON+"__"+measure.Tool, w.token, http.StatusOK),
		"calls of a server that fails":   calls(endpoint(serverFlaky), measure.Tool, w.token, http.StatusOK, http.StatusBadGateway),
		"calls without a token":          calls(endpoint(serverJSON), measure.Tool, "", http.StatusUnauthorized),
		"calls with a token of nobody's": calls(endpoint(serverJSON), measure.Tool, "a-token-that-nobody-has-0123456789", http.StatusUnauthorized, http.StatusServiceUnavailable),
		"calls of no server":             calls(endpoint("absent"), measure.Tool, w.token, http.StatusForbidden),
		"sessions":                       w.session,
		"streams":                        w.stream,
	}
}

// session begins a session, uses it and ends it.
func (w *world) session(ctx context.Context) error {
	got, err := w.do(ctx, http.MethodPost, endpoint(serverJSON), w.token, measure.Initialize, nil)
	if err := want(got, err, http.StatusOK); err != nil {
		return err
	}
	header := func() http.Header {
		return http.Header{"Mcp-Session-Id": {got.session}, "Mcp-Protocol-Version": {harness.SessionEra}}
	}
	called, err := w.do(ctx, http.MethodPost, endpoint(serverJSON), w.token,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}`, header())
	if err := want(called, err, http.StatusOK); err != nil {
		return err
	}
	ended, err := w.do(ctx, http.MethodDelete, endpoint(serverJSON), w.token, "", header())
	return want(ended, err, http.StatusOK, http.StatusAccepted)
}

// stream holds a stream open for a moment.
func (w *world) stream(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_, err := w.do(ctx, http.MethodGet, endpoint(serverSSE), w.token, "", nil)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // nothing ever comes
	}
	return fmt.Errorf("the stream has ended: %w", err)
}

// changes are what administrators do, by name, once a second each.
func (w *world) changes() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"rotations":   w.rotate,
		"revocations": w.revoke,
		"leases":      w.lease,
	}
}

// write writes to Vault, again and again while it has no leader.
func (w *world) write(ctx context.Context, path string, data harness.Map) (harness.Map, error) {
	for attempt := 0; ; attempt++ {
		answer, err := w.vault.Logical().WriteWithContext(ctx, path, data)
		switch {
		case err == nil && (answer == nil || answer.Data == nil):
			return harness.Map{}, nil
		case err == nil:
			w.Secret(w.tokenOf(answer.Data))
			answer.Data["lease_id"] = answer.LeaseID
			return answer.Data, nil
		case attempt == 300:
			return nil, err
		}
		<-time.After(100 * time.Millisecond)
	}
}

// opens waits until a new token works: one that no gateway knows cannot be looked up
// while Vault has no leader.
func (w *world) opens(ctx context.Context, token string) error {
	return w.becomes(ctx, token, http.StatusOK, http.StatusServiceUnavailable)
}

// becomes waits until a call is answered with a status, and suffers others until then.
func (w *world) becomes(ctx context.Context, token string, status int, meanwhile ...int) error {
	for attempt := 0; ; attempt++ {
		got, err := w.call(ctx, endpoint(serverJSON), measure.Tool, token)
		if err == nil && got.status == status {
			return nil
		}
		if err := want(got, err, meanwhile...); err != nil || attempt == 300 {
			return fmt.Errorf("not %d after %d requests: status %d, %w", status, attempt+1, got.status, err)
		}
		<-time.After(100 * time.Millisecond)
	}
}

func (w *world) rotate(ctx context.Context) error {
	made, err := w.write(ctx, "mcp/rotate-client/rotated", harness.Map{"grace_period": "2s"})
	if err != nil {
		return err
	}
	return w.opens(ctx, w.tokenOf(made))
}

func (*world) tokenOf(data harness.Map) string {
	token, _ := data["token"].(string)
	return token
}

// revoke makes a client, revokes it, and deletes it.
func (w *world) revoke(ctx context.Context) error {
	made, err := w.write(ctx, "mcp/clients/revoked", harness.Map{"allowed_servers": "*"})
	if err == nil && w.tokenOf(made) == "" {
		// The client was made, and the answer with its token got lost.
		made, err = w.write(ctx, "mcp/rotate-client/revoked", nil)
	}
	if err != nil {
		return err
	}
	if err := w.opens(ctx, w.tokenOf(made)); err != nil {
		return err
	}
	if _, err := w.write(ctx, "mcp/revoke-client/revoked", nil); err != nil {
		return err
	}
	if err := w.becomes(ctx, w.tokenOf(made), http.StatusUnauthorized, http.StatusOK, http.StatusServiceUnavailable); err != nil {
		return err
	}
	_, err = w.vault.Logical().DeleteWithContext(ctx, "mcp/clients/revoked")
	for attempt := 0; err != nil && attempt < 300; attempt++ {
		<-time.After(100 * time.Millisecond)
		_, err = w.vault.Logical().DeleteWithContext(ctx, "mcp/clients/revoked")
	}
	return err
}

// lease takes a token under a lease, and gives it back. One whose answer gets lost
// with Vault's leader ends by itself soon.
func (w *world) lease(ctx context.Context) error {
	made, err := w.write(ctx, "mcp/creds/leasing", harness.Map{"ttl": "20s"})
	if err != nil {
		return err
	}
	if err := w.opens(ctx, w.tokenOf(made)); err != nil {
		return err
	}
	_, err = w.write(ctx, "sys/leases/revoke", harness.Map{"lease_id": made["lease_id"], "sync": true})
	return err
}

// failures are what breaks, by name, in turn.
func (w *world) failures() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"failures of a server": func(context.Context) error {
			w.flaky.Kill()
			<-time.After(time.Second)
			return w.flaky.Start()
		},
		"changes of Vault's leader": func(ctx context.Context) error {
			// The answer may get lost with the leader that gives it.
			_, _ = w.Vault.Leader().Client().Logical().WriteWithContext(ctx, "sys/step-down", nil)
			return nil
		},
	}
}
