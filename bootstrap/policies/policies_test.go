package policies

import (
	"regexp"
	"strings"
	"testing"
)

func TestRulesForAnotherMountNameItEverywhere(t *testing.T) {
	paths := regexp.MustCompile(`(?m)^path "([^"]+)"`)
	for name, rules := range map[string]string{
		GatewayName: Gateway, AdminName: Admin, TeamAdminName: TeamAdmin, AuditorName: Auditor, ApproverName: Approver, RegistrarName: Registrar, ClientName: Client("auth_approle_1"),
		PersonName: Person, PersonClientName("cursor"): PersonClient("cursor"),
	} {
		if At("/mcp/", rules) != rules {
			t.Errorf("%s: the rules for mcp are not those that are shipped", name)
		}
		moved := paths.FindAllStringSubmatch(At("team/tools", rules), -1)
		for i, match := range paths.FindAllStringSubmatch(rules, -1) {
			want := match[1]
			switch {
			case strings.HasPrefix(want, "mcp/"):
				want = "team/tools" + strings.TrimPrefix(want, "mcp")
			case strings.HasPrefix(want, "sys/mounts/mcp"), strings.Contains(want, "/mcp/"):
				want = strings.Replace(want, "/mcp", "/team/tools", 1)
			}
			if moved[i][1] != want {
				t.Errorf("%s: %s became %s", name, match[1], moved[i][1])
			}
		}
	}
}

func TestTheChildTokensPolicyNamesTheTokenMethod(t *testing.T) {
	rules := Upstream("auth_token_1", "path \"kv/data/mcp/{{identity.entity.aliases.TOKEN_ACCESSOR.name}}/*\" {\n  capabilities = [\"read\"]\n}\n")
	if got := strings.Count(rules, "aliases.auth_token_1.name"); got != 2 { // the example and the rule
		t.Errorf("%d templates name it:\n%s", got, rules)
	}
	if strings.Contains(rules, "TOKEN_ACCESSOR") {
		t.Error(rules)
	}
	if Upstream("TOKEN_ACCESSOR", "") != upstream {
		t.Error("without rules it is not the policy that is shipped")
	}
}

func TestTheClientsPolicyIsForOneAuthMethod(t *testing.T) {
	if rules := Client("auth_approle_1"); !strings.Contains(rules, "aliases.auth_approle_1.metadata") {
		t.Error(rules)
	}
}
