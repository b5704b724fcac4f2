package commands

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/bootstrap/pins"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// pinning is a mount with one server of which gateways have reported something, and somebody
// who approves it.
type pinning struct {
	*harness.Harness

	approver *api.Client
}

func newPinning(t *testing.T) *pinning {
	t.Helper()
	h := harness.New(t)
	h.Write("mcp/servers/github", harness.Map{"transport": "http", "url": "https://mcp.example.com/mcp", "pin": "enforce"})
	return &pinning{h, stage.Holder(t, h, policies.ApproverName, policies.Approver)}
}

// report reports definitions that nobody has approved, as a gateway does.
func (p *pinning) report(t *testing.T, kindsAndTexts ...string) {
	t.Helper()
	var definitions []any
	for i := 0; i < len(kindsAndTexts); i += 2 {
		definitions = append(definitions, harness.Map{"kind": kindsAndTexts[i], "text": kindsAndTexts[i+1]})
	}
	answer := p.Write("mcp/gateway/pins/github", harness.Map{"place": p.Read("mcp/pins/github")["place"], "definitions": definitions})
	require.Equal(t, json.Number("0"), answer["refused"])
}

// run runs mcp-bootstrap pins as the approver, without a terminal.
func (p *pinning) run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), p.Programs.Bootstrap, append([]string{"pins"}, args...)...)
	cmd.Env = []string{
		"GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH"), "HOME=" + p.Dir, "VAULT_ADDR=" + p.Vault.Address(), "VAULT_TOKEN=" + p.approver.Token(),
	}
	var out, errors strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errors
	err = cmd.Run()
	return out.String(), errors.String(), err
}

func (p *pinning) prints(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, err := p.run(t, args...)
	require.NoError(t, err, stderr)
	require.Empty(t, stderr)
	require.NotRegexp(t, "[\x00-\x09\x0b-\x1f\x7f-\u009f\u200b-\u200f\u2028-\u202e]", stdout)
	return stdout
}

// shown is the digest of all that a diff has shown, out of the command that it ends with.
func shown(t *testing.T, diff string) string {
	t.Helper()
	found := regexp.MustCompile(`\n  mcp-bootstrap pins approve github .*-shown (sha256:[0-9a-f]{64}) -yes\n`).FindStringSubmatch(diff)
	require.NotNil(t, found, diff)
	return found[1]
}

func (p *pinning) digests(t *testing.T, field string) []string {
	t.Helper()
	var digests []string
	for _, one := range p.Read("mcp/pins/github")[field].([]any) { //nolint:forcetypeassert // else it fails here
		digests = append(digests, one.(harness.Map)["digest"].(string)) //nolint:forcetypeassert // likewise
	}
	return digests
}

func digestOf(t *testing.T, kind pin.Kind, text string) string {
	t.Helper()
	d, err := pin.Read(kind, []byte(text))
	require.NoError(t, err)
	return d.Digest.String()
}

func TestAnApproverSeesWhatAServerSaysAndApprovesIt(t *testing.T) {
	const (
		mayTool      = `{"name":"search","description":"Searches the repository.","inputSchema":{"type":"object"}}`
		juneTool     = `{"inputSchema":{"type":"object","required":["context"]},"name":"search","description":"Searches the repo\u200bsitory.\u001b[2J"}`
		instructions = `"Use search first."`
	)
	p := newPinning(t)
	p.report(t, "tool", mayTool, "instructions", instructions)
	require.Regexp(t, `(?m)^enforce +0 +2  github$`, p.prints(t, "list"))
	list := p.prints(t, "list", "github")
	require.Contains(t, list, "tool \"search\"\n    "+digestOf(t, pin.Tool, mayTool))
	require.Contains(t, list, "instructions\n    "+digestOf(t, pin.Instructions, instructions))

	// Nothing is approved without a yes, or with that of another diff.
	diff := p.prints(t, "diff", "github")
	require.Contains(t, diff, "github: tool \"search\", new\n")
	_, stderr, err := p.run(t, "approve", "github")
	require.Error(t, err)
	require.Contains(t, stderr, "there is no terminal to ask at")
	_, stderr, err = p.run(t, "approve", "github", "-yes")
	require.Error(t, err)
	require.Contains(t, stderr, "-yes alone approves definitions that nobody has looked at")
	p.report(t, "tool", `{"name":"late"}`)
	_, stderr, err = p.run(t, "approve", "github", "-shown", shown(t, diff), "-yes")
	require.Error(t, err)
	require.Contains(t, stderr, "the reported definitions of github are not those of -shown")
	require.Empty(t, p.digests(t, "approved"))

	out := p.prints(t, "approve", "github", "search", "-digest="+digestOf(t, pin.Tool, mayTool), "-yes")
	require.Contains(t, out, "Approved 1 definition of github.\n")
	require.Equal(t, []string{digestOf(t, pin.Tool, mayTool)}, p.digests(t, "approved"))

	// The server says something else, which is shown harmlessly, beside the approved text.
	p.report(t, "tool", juneTool)
	diff = p.prints(t, "diff", "-kind", "tool", "github", "search")
	for _, line := range []string{
		"github: tool \"search\", changed\n",
		"      - Searches the repository.\n",
		"      + Searches the repo<U+200B ZERO WIDTH SPACE>sitory.<U+001B ESCAPE>[2J\n",
		"  + inputSchema.required: [\"context\"]\n",
	} {
		require.Contains(t, diff, line)
	}
	var choice pins.Choice
	require.NoError(t, json.Unmarshal([]byte(p.prints(t, "diff", "github", "-format=json")), &choice))
	require.Len(t, choice.Items, 3)

	p.prints(t, "approve", "github", "search", "-kind", "tool", "-shown", shown(t, diff), "-yes")
	require.ElementsMatch(t, []string{digestOf(t, pin.Tool, mayTool), digestOf(t, pin.Tool, juneTool)}, p.digests(t, "approved"))
	require.Len(t, p.digests(t, "reported"), 2)
	require.Contains(t, p.prints(t, "list", "github", "search"), "tool \"search\", approved\n")
}
