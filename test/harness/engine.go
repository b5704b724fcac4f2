package harness

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/backend/token"
)

// Write writes to Vault with the root token and returns the answer's data, or
// fails the test.
func (h *Harness) Write(path string, data Map) Map {
	h.t.Helper()
	answer, err := h.TryWrite(path, data)
	if err != nil {
		h.t.Fatal(err)
	}
	return answer
}

// TryWrite is Write that returns an error.
func (h *Harness) TryWrite(path string, data Map) (Map, error) {
	h.t.Helper()
	h.secrets.addFrom(data)
	return h.answer(h.Vault.Client().Logical().WriteWithContext(h.t.Context(), path, data))
}

// Read reads from Vault with the root token and returns the data, nil if there is none,
// or fails the test.
func (h *Harness) Read(path string) Map {
	h.t.Helper()
	answer, err := h.answer(h.Vault.Client().Logical().ReadWithContext(h.t.Context(), path))
	if err != nil {
		h.t.Fatal(err)
	}
	return answer
}

// List lists a path with the root token.
func (h *Harness) List(path string) []string {
	h.t.Helper()
	answer, err := h.answer(h.Vault.Client().Logical().ListWithContext(h.t.Context(), path))
	if err != nil {
		h.t.Fatal(err)
	}
	keys, _ := answer["keys"].([]any)
	names := make([]string, 0, len(keys))
	for _, key := range keys {
		names = append(names, fmt.Sprint(key))
	}
	return names
}

// Delete deletes in Vault with the root token.
func (h *Harness) Delete(path string) {
	h.t.Helper()
	if _, err := h.Vault.Client().Logical().DeleteWithContext(h.t.Context(), path); err != nil {
		h.t.Fatal(err)
	}
}

// DeleteForced is Delete with force=true.
func (h *Harness) DeleteForced(path string) {
	h.t.Helper()
	if _, err := h.Vault.Client().Logical().DeleteWithDataWithContext(h.t.Context(), path, map[string][]string{"force": {"true"}}); err != nil {
		h.t.Fatal(err)
	}
}

// answer returns the data of an answer, and notes the tokens in it as secrets.
func (h *Harness) answer(secret *api.Secret, err error) (Map, error) {
	if err != nil || secret == nil {
		return nil, err
	}
	h.secrets.addFrom(secret.Data)
	return secret.Data, nil
}

// CreateClient writes a client and returns its token. One as which people sign in has none of
// its own, and is given one.
func (h *Harness) CreateClient(name string, data Map) string {
	h.t.Helper()
	answer := h.Write(Mount+"/clients/"+name, data)
	if _, has := answer["token"]; !has && data["sign_in"] == true {
		answer = h.Write(Mount+"/rotate-client/"+name, nil)
	}
	return h.Token(answer)
}

// Token takes the token out of an answer's data.
func (h *Harness) Token(data Map) string {
	h.t.Helper()
	text, ok := data["token"].(string)
	if !ok || text == "" {
		h.t.Fatalf("the answer has no token, but %s", strings.Join(keys(data), ", "))
	}
	return text
}

// UnissuedToken returns a token in the form of an issued one, with its checksum, that no
// engine here has issued.
func UnissuedToken(t testing.TB) string {
	t.Helper()
	made, err := token.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func keys(data Map) []string {
	names := make([]string, 0, len(data))
	for name := range data {
		names = append(names, name)
	}
	return names
}

// Eventually polls until check returns nil, and fails the test with its last
// answer after a minute. what is the awaited state: "the gateway is ready".
func (h *Harness) Eventually(what string, check func() error) {
	h.t.Helper()
	h.Within(patience, what, check)
}

// Within is Eventually with a bound, for promises about time.
func (h *Harness) Within(bound time.Duration, what string, check func() error) {
	h.t.Helper()
	// Also called from cleanup, when the test's own context has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.t.Context()), bound)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			h.t.Fatalf("not within %s: %s: %v", bound, what, err)
		case <-tick.C:
		}
	}
}
