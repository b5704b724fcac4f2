package audit

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// secretWords are tokens that were given out, or shown, in the course of a test.
type secretWords map[string]string // by their kind

// in returns the secrets that are in the text, in clear or in a usual encoding.
func (w secretWords) in(text string) []string {
	var found []string
	for what, secret := range w {
		for _, form := range []string{
			secret, hex.EncodeToString([]byte(secret)),
			base64.RawStdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
		} {
			if strings.Contains(text, form) {
				found = append(found, what)
				break
			}
		}
	}
	return found
}

// rawStorage returns all of Vault's storage, as it lies behind the barrier, by
// its keys. Vault's own keys are left out, since Vault never shows them.
func rawStorage(t *testing.T, s *stage.Stage) map[string]string {
	t.Helper()
	all := map[string]string{}
	client := s.Vault.Client().Logical()
	var walk func(folder string)
	walk = func(folder string) {
		for _, name := range s.List("sys/raw/" + folder) {
			if strings.HasSuffix(name, "/") {
				walk(folder + name)
				continue
			}
			path, encoding := "sys/raw/"+folder+name, []string{"base64"}
			answer, err := client.ReadWithDataWithContext(t.Context(), path, map[string][]string{"encoding": encoding})
			if err != nil {
				// A random first byte may look as if the value were compressed.
				answer, err = client.ReadWithDataWithContext(t.Context(), path, map[string][]string{"encoding": encoding, "compressed": {"false"}})
			}
			if err != nil {
				if strings.HasPrefix(folder, "core/") || folder == "" {
					continue
				}
				t.Fatalf("%s: %v", folder+name, err)
			}
			if answer == nil {
				continue // deleted meanwhile
			}
			content, err := base64.StdEncoding.DecodeString(fmt.Sprint(answer.Data["value"]))
			if err != nil {
				t.Fatalf("%s: %v", folder+name, err)
			}
			all[folder+name] = string(content)
		}
	}
	walk("")
	return all
}

// exercise has tokens issued, replaced, refused and revoked in all the ways
// there are, and returns them.
func exercise(t *testing.T, s *stage.Stage) secretWords {
	t.Helper()
	words := secretWords{
		"a custom token":           "custom-token.of-the-test_0123456789abcdefghij",
		"another custom token":     "another-token.of-the-test_0123456789abcdefghij",
		"a custom token too short": "short.tok9",
		"a custom token of a form": "not a b64token, but long enough to be one",
		"a token nobody issued":    harness.UnissuedToken(t),
		"a malformed token":        "mcpt_malformed0123456789malformed0123456789",
	}
	words["an issued token"] = s.Client("issued", nil)
	words["a token of an expiring client"] = s.Client("expiring", harness.Map{"token_ttl": "1h"})
	s.Client("custom", harness.Map{"access_token": words["a custom token"]})
	words["a rotated token"] = s.Token(s.Write("mcp/rotate-client/issued", harness.Map{"grace_period": "1h"}))
	s.Write("mcp/rotate-client/custom", harness.Map{"access_token": words["another custom token"]})
	words["a revoked token"] = s.Client("revoked", nil)

	for _, refused := range []harness.Map{
		{"access_token": words["a custom token too short"]},
		{"access_token": words["a custom token of a form"]},
		{"access_token": words["another custom token"]},
		{"access_token": words["an issued token"]},
		{"token": words["an issued token"]},
		{"access_token": []string{words["an issued token"]}, "no_such_field": words["an issued token"]},
	} {
		if _, err := s.TryWrite("mcp/clients/refused", refused); err == nil {
			t.Errorf("a write was accepted")
		} else if found := words.in(err.Error()); found != nil {
			t.Errorf("an error shows %v: %v", found, err)
		}
	}
	for _, word := range words {
		s.Add(word)
		s.Do(http.MethodPost, s.Gateway.ServerURL(stage.Calculator)+"?access_token="+url.QueryEscape(word), word, http.Header{"Content-Type": {"application/json"}}, "{")
		s.Call(s.Gateway.ServerURL(stage.Forbidden), word, "add", `{}`)
		s.Call(stage.Aggregate.URL(s.Gateway, stage.Calculator), word, stage.Aggregate.Tool(stage.Calculator, "add"), `{"a":1,"b":2}`)
		s.Post(stage.Aggregate.URL(s.Gateway, stage.Calculator), words["an issued token"], `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"mcp://`+word+`/a:b"}}`)
		s.Do(http.MethodGet, s.Gateway.URL+"/"+url.PathEscape(word), word, nil, "")
		s.Do(http.MethodGet, s.Gateway.ServerURL(url.PathEscape(word)), "", nil, "")
		s.Do(http.MethodGet, s.Gateway.ServerURL(url.PathEscape(word)), words["an issued token"], nil, "")
		s.Write("mcp/lookup", harness.Map{"token": word})
		s.Write("mcp/introspect", harness.Map{"token": word})
		if _, err := s.TryWrite("mcp/renew", harness.Map{"token": word}); err != nil && words.in(err.Error()) != nil {
			t.Errorf("an error shows a token: %v", err)
		}
	}
	s.Works(t, words["an issued token"])
	s.Works(t, words["a custom token"])
	s.Works(t, words["another custom token"])
	s.Write("mcp/revoke", harness.Map{"token": words["a revoked token"]})
	s.RefusedSoon(t, words["a revoked token"])
	return words
}

func TestNoTokenLiesInStorageOrInALog(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Write("sys/loggers", harness.Map{"level": "trace"})
	s.Write("sys/plugins/reload/backend", harness.Map{"mounts": "mcp/"})
	words := exercise(t, s)
	leased := secretWords{"a leased token": s.Token(s.Write("mcp/creds/issued", harness.Map{"ttl": "1h"}))}

	// First the logs: Vault audits what is read from its raw storage in clear.
	t.Run("in a log", func(t *testing.T) { wantSilentLogs(t, s.In(t), words, leased) })

	t.Run("in storage", func(t *testing.T) {
		s := s.In(t)
		ours, inLease := 0, false
		for key, content := range rawStorage(t, s) {
			if found := words.in(key + "\n" + content); found != nil {
				t.Errorf("the storage entry %s holds %v", key, found)
			}
			if strings.HasPrefix(key, "logical/") && strings.Contains(key+content, "expiring") {
				ours++
			}
			if leased.in(key+"\n"+content) == nil {
				continue
			}
			// A lease is the exception: Vault itself keeps the answer in it. That
			// it is found there shows that it would be found elsewhere.
			inLease = true
			if !strings.HasPrefix(key, "sys/expire/id/mcp/creds/issued/") {
				t.Errorf("the storage entry %s holds a leased token", key)
			}
		}
		if ours == 0 || !inLease {
			t.Errorf("entries of the engine seen: %d, the lease seen: %v: is the test looking at the storage at all?", ours, inLease)
		}
	})
}

// wantSilentLogs fails the test if a log of any process holds a token.
func wantSilentLogs(t *testing.T, s *stage.Stage, secrets ...secretWords) {
	t.Helper()
	logs := s.Logs()
	var seen strings.Builder
	for _, path := range logs {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, words := range secrets {
			if found := words.in(string(content)); found != nil {
				t.Errorf("the log %s holds %v", path, found)
			}
		}
		seen.Write(content)
	}
	for what, text := range map[string]string{
		"the gateway's audit lines":      fmt.Sprint(s.Read("mcp/clients/issued")["accessor"]),
		"the gateway's own lines":        `"logged in to Vault"`,
		"Vault's own lines, all of them": "[TRACE]",
		"Vault's audit lines":            `"hmac-sha256:`,
	} {
		if !strings.Contains(seen.String(), text) {
			t.Errorf("%s are not in the logs %q", what, logs)
		}
	}
}
