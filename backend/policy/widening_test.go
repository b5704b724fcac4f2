package policy

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Where Widening sees none, no client reaches more, whichever policies it binds.
func TestWideningMissesNothing(t *testing.T) {
	g := generated{rand.New(rand.NewPCG(11, 1))}
	quiet := 0
	for range rounds {
		all := g.sources()
		var managed, others []Source
		for _, s := range all {
			s.Missing = false
			if s.Managed {
				managed = append(managed, s)
			} else {
				others = append(others, s)
			}
		}
		if len(managed) == 0 {
			continue
		}
		i := g.IntN(len(managed))
		left := slices.Delete(slices.Clone(managed), i, i+1)
		kept := managed[i] // it may apply to those that name it
		kept.Managed = false
		lists := slices.ContainsFunc(others, func(s Source) bool { return s.Policy.Allowed != nil })
		if Widening(Compile(managed), Compile(left), lists) != "" {
			continue
		}
		quiet++
		for range 5 {
			bound := slices.DeleteFunc(slices.Clone(others), func(Source) bool { return g.IntN(2) == 0 })
			server := g.server()
			before := Compile(slices.Concat(managed, bound)).Evaluate(&server)
			if after := Compile(slices.Concat(left, bound)).Evaluate(&server); after.Allowed && !before.Allowed {
				t.Fatalf("%+v without %+v admits %+v: %s; before: %s", managed, managed[i], server, after.Reason, before.Reason)
			}
			if after := Compile(slices.Concat(left, bound, []Source{kept})).Evaluate(&server); after.Allowed && !before.Allowed {
				t.Fatalf("%+v with %+v for those that name it admits %+v: %s; before: %s", managed, managed[i], server, after.Reason, before.Reason)
			}
		}
	}
	if quiet < rounds/20 {
		t.Errorf("only %d of %d rounds tried anything", quiet, rounds)
	}
}

func TestNearMisses(t *testing.T) {
	own := []string{"managed", "dry_run", "force", "name"}
	for name, want := range map[string]string{
		"dryrun": "dry_run", "dry-run": "dry_run", "DryRun": "dry_run", "dry_rum": "dry_run", "dr_yrun": "dry_run",
		"manged": "managed", "manage": "managed", "MANAGED": "managed", "is_managed": "managed", "froce": "force", "forced": "force", "names": "name",
		"managed": "", "force": "", "model": "", "hooks": "", "env": "", "permissions": "", "mcpServers": "", "managedMcpServers": "", "": "",
	} {
		if got := NearMiss(name, own); got != want {
			t.Errorf("NearMiss(%q) = %q, not %q", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"allowedMcpServer": AllowedSetting, "allowed_mcp_servers": AllowedSetting, "allowMcpServers": AllowedSetting, "allowedMCPServers": AllowedSetting,
		"denyMcpServers": DeniedSetting, "deniedMcpSevers": DeniedSetting, "allowManagedMcpServerOnly": ManagedOnlySetting,
		"managedMcpServers": "", "enabledMcpjsonServers": "", "disabledMcpjsonServers": "", "allowManagedHooksOnly": "",
		"allowManagedPermissionRulesOnly": "", "allowAllClaudeAiMcps": "", "mcpServers": "", "allowedHttpHookUrls": "",
	} {
		if got := NearMiss(name, settings); got != want {
			t.Errorf("NearMiss(%q) = %q, not %q", name, got, want)
		}
	}
}
