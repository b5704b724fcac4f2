package engine

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

// use is one request that a policy allows or not. {fresh} in its path stands for a
// name that was never used.
type use struct {
	method string // of HTTP, or LIST
	path   string
	data   harness.Map
}

func (u use) String() string {
	if len(u.data) == 0 {
		return u.method + " " + u.path
	}
	return fmt.Sprintf("%s %s %v", u.method, u.path, u.data)
}

// capabilities are those of which one is needed.
func (u use) capabilities() []string {
	switch u.method {
	case http.MethodGet:
		return []string{"read"}
	case http.MethodDelete:
		return []string{"delete"}
	case http.MethodPatch:
		return []string{"patch"}
	case "LIST":
		return []string{"list"}
	default:
		return []string{"create", "update", "sudo"}
	}
}

var fresh atomic.Int64

// denied sends the request and tells whether Vault's ACL refused it. Any other
// answer, also one that says the request makes no sense, has passed the ACL.
func denied(ctx context.Context, vault *api.Client, u use) bool {
	path := strings.ReplaceAll(u.path, "{fresh}", fmt.Sprintf("fresh-%d", fresh.Add(1)))
	var err error
	switch u.method {
	case http.MethodGet:
		_, err = vault.Logical().ReadWithContext(ctx, path)
	case http.MethodDelete:
		_, err = vault.Logical().DeleteWithContext(ctx, path)
	case http.MethodPatch:
		_, err = vault.Logical().JSONMergePatch(ctx, path, u.data)
	case "LIST":
		_, err = vault.Logical().ListWithContext(ctx, path)
	default:
		_, err = vault.Logical().WriteWithContext(ctx, path, u.data)
	}
	return err != nil && strings.Contains(err.Error(), "Code: 403")
}

// grant is one path of a policy.
type grant struct {
	path         string // as it stands in the rules
	capabilities []string
}

// grantForm is a path of a policy. Comments may stand above its capabilities.
var grantForm = regexp.MustCompile(`(?m)^path "([^"]+)"\s*\{\n(?:\s*#[^\n]*\n)*\s*capabilities = \[([^\]]*)\]`)

// grantsOf are all paths of a policy. One that it could not read would look like a right
// that nobody has.
func grantsOf(t *testing.T, rules string) []grant {
	t.Helper()
	var grants []grant
	for _, match := range grantForm.FindAllStringSubmatch(rules, -1) {
		grants = append(grants, grant{match[1], regexp.MustCompile(`\w+`).FindAllString(match[2], -1)})
	}
	require.Len(t, grants, strings.Count("\n"+rules, "\npath \""))
	return grants
}

var template = regexp.MustCompile(`\{\{[^}]*\}\}`)

// covers tells whether the grant is for the path. A templated name is the client's, and +
// stands for one segment.
func (g grant) covers(path string) bool {
	own := template.ReplaceAllString(g.path, "cursor")
	if rest, ok := strings.CutSuffix(own, "+"); ok {
		name, below := strings.CutPrefix(path, rest)
		return below && name != "" && !strings.Contains(name, "/")
	}
	prefix, isPrefix := strings.CutSuffix(own, "*")
	return path == own || isPrefix && strings.HasPrefix(path, prefix)
}

// acl is a policy, and its purpose.
type acl struct {
	h      *harness.Harness
	name   string // in Vault
	rules  string
	holder *api.Client // whose token has the policy alone
	// may are the requests that it is there for, mayNot some that it is not.
	may, mayNot []use
	// absent are paths that are deleted before a write without data, which creates.
	absent []string
	// shown are paths whose need another test shows.
	shown []string
	// names are tried wherever the engine's paths have a name; none: "cursor".
	names []string
}

// check proves that the policy's holder may make the requests that it is there for;
// that it may make no other, of all that the engine's own description lists; and
// that each capability of each path is needed, by taking it away.
func (a acl) check(t *testing.T) {
	t.Helper()
	for _, u := range a.mayNot {
		if !denied(t.Context(), a.holder, u) {
			t.Errorf("it may %s", u)
		}
	}
	for _, u := range a.may {
		if a.denied(t, u) {
			t.Errorf("it may not %s", u)
		}
	}
	a.checkTheRest(t)
	a.checkMinimal(t)
}

// denied is denied for a request that the policy is there for.
func (a acl) denied(t *testing.T, u use) bool {
	t.Helper()
	if u.method == http.MethodPut && len(u.data) == 0 && slices.Contains(a.absent, u.path) {
		a.h.Delete(u.path)
	}
	return denied(t.Context(), a.holder, u)
}

// checkTheRest tries every path of the engine with every method. Everything that the
// rules do not grant must be refused.
func (a acl) checkTheRest(t *testing.T) {
	t.Helper()
	grants, tried := grantsOf(t, a.rules), 0
	for _, path := range enginePaths(t, a.h) {
		for _, name := range append([]string{"cursor"}, a.names...) {
			filled := parameter.ReplaceAllString(path, name)
			for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch, "LIST"} {
				u := use{method: method, path: filled}
				granted := slices.ContainsFunc(grants, func(g grant) bool {
					return g.covers(filled) && slices.ContainsFunc(u.capabilities(), func(c string) bool { return slices.Contains(g.capabilities, c) })
				})
				if granted {
					continue
				}
				tried++
				if !denied(t.Context(), a.holder, u) {
					t.Errorf("it may %s", u)
				}
			}
		}
	}
	require.Greater(t, tried, 50)
}

var parameter = regexp.MustCompile(`\{\w+\}`)

// enginePaths are all of the engine's, as its own description has them.
func enginePaths(t *testing.T, h *harness.Harness) []string {
	t.Helper()
	answer, err := h.Vault.Client().Logical().ReadRawWithContext(t.Context(), "sys/internal/specs/openapi")
	require.NoError(t, err)
	defer answer.Body.Close()
	var description struct {
		Paths harness.Map `json:"paths"`
	}
	require.NoError(t, answer.DecodeJSON(&description))
	var paths []string
	for path := range description.Paths {
		if strings.HasPrefix(path, "/mcp/") {
			paths = append(paths, strings.TrimPrefix(path, "/"))
		}
	}
	require.Greater(t, len(paths), 25)
	slices.Sort(paths)
	return paths
}

// checkMinimal takes one capability after the other out of the policy. Something
// that it is there for must fail without it.
func (a acl) checkMinimal(t *testing.T) {
	t.Helper()
	root := a.h.Vault.Client()
	for _, g := range grantsOf(t, a.rules) {
		if slices.Contains(a.shown, g.path) {
			continue
		}
		for _, capability := range g.capabilities {
			require.NoError(t, provision.Policy(t.Context(), root, a.name, without(a.rules, g, capability)))
			needed := slices.ContainsFunc(a.may, func(u use) bool {
				return g.covers(u.path) && slices.Contains(u.capabilities(), capability) && a.denied(t, u)
			})
			if !needed {
				t.Errorf("%s of %s is granted for nothing", capability, g.path)
			}
		}
	}
	require.NoError(t, provision.Policy(t.Context(), root, a.name, a.rules))
}

// without are the rules without one capability of one path.
func without(rules string, g grant, capability string) string {
	rest := slices.DeleteFunc(slices.Clone(g.capabilities), func(c string) bool { return c == capability })
	if len(rest) == 0 {
		rest = []string{"deny"}
	}
	return grantForm.ReplaceAllStringFunc(rules, func(text string) string {
		if grantForm.FindStringSubmatch(text)[1] != g.path {
			return text
		}
		return fmt.Sprintf("path %q {\n  capabilities = [%s]", g.path, `"`+strings.Join(rest, `", "`)+`"`)
	})
}
