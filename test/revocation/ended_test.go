package revocation

import (
	"net/http"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

func TestRevokedTokenIsRefused(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Everywhere(func(s *stage.Stage) {
		t := s.T
		for name, end := range map[string]func(client string){
			"revoked by its client": func(client string) { s.Write("mcp/revoke-client/"+client, nil) },
			"revoked by itself": func(client string) {
				s.Write("mcp/revoke-accessor", harness.Map{"accessor": s.Read("mcp/clients/" + client)["accessor"]})
			},
			"deleted with its client": func(client string) { s.Delete("mcp/clients/" + client) },
			"disabled":                func(client string) { s.Write("mcp/clients/"+client, harness.Map{"disabled": true}) },
			"rotated without grace":   func(client string) { s.Write("mcp/rotate-client/"+client, harness.Map{"grace_period": 0}) },
			"revoked with all others": func(string) { s.Write("mcp/revoke-all", nil) },
		} {
			t.Run("a token "+name, func(t *testing.T) {
				s := s.In(t)
				client := strings.ReplaceAll(name, " ", "-")
				token := s.Client(client, nil)
				s.Works(t, token)
				s.Forget()
				end(client)
				s.RefusedSoon(t, token)
				for what, ask := range s.Asks(stage.Calculator, http.Header{"Authorization": {"Bearer " + token}}) {
					r := ask()
					stage.WantRefusal(t, r, http.StatusUnauthorized)
					if t.Failed() {
						t.Fatal(what)
					}
				}
				s.Untouched(t)
			})
		}
	})
}

func TestExpiredTokenIsRefused(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	issue := map[string]func() harness.Map{
		"of a client": func() harness.Map {
			return s.Write("mcp/clients/short", harness.Map{"allowed_servers": stage.Calculator, "token_ttl": "3s"})
		},
		"of a lease": func() harness.Map {
			s.Client("leased", nil)
			return s.Write("mcp/creds/leased", harness.Map{"ttl": "3s"})
		},
	}
	for name, write := range issue {
		t.Run("a token "+name, func(t *testing.T) {
			s := s.In(t)
			data := write()
			token, end := s.Token(data), stage.Time(t, data["expires_at"])
			s.AcceptedUntil(t, token, end)
			s.Forget()
			for range 3 {
				stage.WantRefusal(t, s.Add(token), http.StatusUnauthorized)
			}
			s.Untouched(t)
			if data := s.Write("mcp/lookup", harness.Map{"token": token}); data["active"] != false {
				t.Errorf("the engine takes it for active")
			}
		})
	}
}
