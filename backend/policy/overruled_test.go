package policy

import (
	"slices"
	"strings"
	"testing"
)

func TestAListThatAnotherSourceOverrulesIsFound(t *testing.T) {
	all, list := []string{"*"}, []string{"github/list_*"}
	own := func(l Lists) Rights { return Rights{Lists: l} }
	tests := []struct {
		name    string
		rights  []Rights
		servers []string // nil: nothing is overruled
		by      string
	}{
		{"the client's list by its role", []Rights{own(Lists{AllowedServers: []string{"github"}, AllowedTools: list}), role("r", Lists{AllowedServers: []string{"a", "github"}})}, []string{"github"}, "r"},
		{"the role's list by the client", []Rights{own(Lists{AllowedServers: all}), role("r", Lists{AllowedServers: []string{"github"}, AllowedTools: list})}, []string{"github"}, ""},
		{"of every server", []Rights{own(Lists{AllowedServers: all, AllowedTools: list}), role("r", Lists{AllowedServers: all})}, all, "r"},
		{"no server that both admit", []Rights{own(Lists{AllowedServers: []string{"github"}, AllowedTools: list}), role("r", Lists{AllowedServers: []string{"a"}})}, nil, ""},
		{"both lists are set", []Rights{own(Lists{AllowedServers: all, AllowedTools: list}), role("r", Lists{AllowedServers: all, AllowedTools: list})}, nil, ""},
		{"the list allows all of it", []Rights{own(Lists{AllowedServers: []string{"github"}, AllowedTools: []string{"github/*"}}), role("r", Lists{AllowedServers: all})}, nil, ""},
		{"a role that does not exist", []Rights{own(Lists{AllowedServers: all, AllowedTools: list}), {Role: "r", Missing: true}}, nil, ""},
		{"no role", []Rights{own(Lists{AllowedServers: all, AllowedTools: list})}, nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			found := FindOverruled(test.rights)
			if test.servers == nil {
				if len(found) > 0 {
					t.Errorf("found %+v", found)
				}
				return
			}
			if len(found) != 1 || found[0].Item != Tool || found[0].By.Role != test.by || !slices.Equal(found[0].Servers, test.servers) {
				t.Errorf("found %+v", found)
			}
		})
	}
}

func TestTheReasonNamesTheListThatIsUnset(t *testing.T) {
	all := []string{"*"}
	for name, test := range map[string]struct {
		rights []Rights
		want   string
	}{
		"beside a set list":   {[]Rights{{Lists: Lists{AllowedServers: all, AllowedPrompts: []string{"s/a"}}}, role("r", Lists{AllowedServers: all})}, "allowed_prompts of role r is unset"},
		"beside other rules":  {[]Rights{{Lists: Lists{AllowedServers: all, DeniedPrompts: []string{"other/*"}}}}, "allowed_prompts of client c is unset"},
		"without any rule":    {[]Rights{{Lists: Lists{AllowedServers: all}}, role("r", Lists{AllowedServers: all})}, "no rule is about prompts of the server"},
		"only of other items": {[]Rights{{Lists: Lists{AllowedServers: all, AllowedTools: []string{"s/a"}}}}, "no rule is about prompts of the server"},
	} {
		t.Run(name, func(t *testing.T) {
			if d := DecideItem("c", test.rights, "s", Prompt, "b"); !d.Allowed || !strings.Contains(d.Reason, test.want) {
				t.Errorf("reason %q", d.Reason)
			}
		})
	}
}
