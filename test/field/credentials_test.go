package field

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/upstream/bed"
	"vault-plugin-secrets-mcp/test/upstream/servers"
)

// leasing is a server on stdio that shows the certificate that was leased for its client.
const leasing = "leasing"

// rested is how soon a path that has failed is asked again, at most.
const rested = 70 * time.Second

// registerLeasing registers the server.
func (c *company) registerLeasing(t *testing.T) {
	t.Helper()
	c.Write("mcp/servers/"+leasing, harness.Map{
		"transport": "stdio", "command": itself(t),
		"credentials": harness.Map{"cert": harness.Map{"path": "pki/issue/mcp", "method": "write", "data": harness.Map{"common_name": "{{client.alias}}"}}},
		"env":         harness.Map{servers.Variable: servers.Stdio, "LEASED_SERIAL": "{{cert.serial_number}}"},
	})
}

// itself is the test's program, which is the server, too.
func itself(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	require.NoError(t, err)
	return path
}

// credentialsOutliveACut is a row of the table "Vault": the gateways hear nothing of Vault.
// A client goes on with the credentials that it has, and who has none gets 503. Vault
// revokes the first one's access meanwhile: its process, Vault token and lease end when
// the gateways hear of Vault again.
func (c *company) credentialsOutliveACut(t *testing.T) {
	t.Helper()
	url := atNginx + one(leasing).path
	holder := c.CreateClient("cut-holder", harness.Map{"allowed_servers": leasing})
	newcomer := c.CreateClient("cut-newcomer", harness.Map{"allowed_servers": []string{leasing, calculator}})
	c.introduce(t, holder, leasing)
	session := c.Connect(url, holder)
	first := looks(t, session)
	c.introduce(t, newcomer, calculator) // the gateways know the token
	call := func() int {
		return c.DoOnce(http.MethodPost, url, newcomer, http.Header{
			"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
			"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"look"},
		}, harness.CallBody("look", "{}")).Status
	}

	mend := c.Cut(t, c.Between("haproxy", "gateway-1", "gateway-2")) // it stands before Vault
	require.Equal(t, first, looks(t, session))
	asked := time.Now()
	require.Equal(t, http.StatusServiceUnavailable, call())
	took := time.Since(asked)
	c.Eventually("an audit line says why", func() error {
		for _, g := range c.gateways {
			for _, line := range g.Audit() {
				if line["type"] == "refusal" && line["client"] == "cut-newcomer" && line["reason"] == "upstream-credentials" {
					return nil
				}
			}
		}
		return errors.New("there is none")
	})
	require.Equal(t, first, looks(t, session))
	c.Within(elected, "a revocation is answered", func() error { // also where the machine is so busy that Vault elects
		_, err := c.TryWrite("mcp/revoke-client/cut-holder", nil)
		return err
	})
	require.NotEmpty(t, bed.Leases(c.Harness, "pki/issue/mcp"))
	mend()
	mended := time.Now()
	c.Within(noticed, "what the client had has ended", func() error {
		if _, err := os.Stat("/proc/" + strconv.Itoa(first.PID)); !errors.Is(err, os.ErrNotExist) {
			return errors.New("its process runs")
		}
		if left := bed.Leases(c.Harness, "pki/issue/mcp"); len(left) > 0 {
			return fmt.Errorf("there are %v", left)
		}
		return nil
	})
	t.Logf("503 came after %s; all had ended %s after the link was mended", took.Round(time.Millisecond), time.Since(mended).Round(time.Millisecond))
	c.Within(rested, "whoever had none has some", func() error {
		if status := call(); status != http.StatusOK {
			return fmt.Errorf("answered %d", status)
		}
		return nil
	})
	c.Write("mcp/revoke-client/cut-newcomer", nil)
	c.Within(noticed, "nothing is left", func() error {
		if left := append(bed.Leases(c.Harness, "pki/issue/mcp"), children(t, c.Harness)...); len(left) > 0 {
			return fmt.Errorf("there are %v", left)
		}
		return nil
	})
	c.awaitFeeds()
}

func children(t *testing.T, h *harness.Harness) []string {
	t.Helper()
	var all []string
	for _, child := range bed.Children(t, h) {
		all = append(all, child.Accessor)
	}
	return all
}

// looks asks the server as whom it was started.
func looks(t *testing.T, session *mcp.ClientSession) (seen servers.Sight) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "look", Arguments: harness.Map{}})
	require.NoError(t, err)
	content, err := json.Marshal(result.StructuredContent)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(content, &seen))
	require.NotEmpty(t, seen.Env["LEASED_SERIAL"])
	return seen
}
