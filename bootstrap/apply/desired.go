// Package apply brings Vault to the state that a folder of files describes: the
// engine in the plugin catalog and on its mount, ACL policies, the gateway's
// login, servers, policies and clients.
//
// It first makes a plan, for which it only reads: each step has the difference between Vault
// and the files. If every step is possible, it then takes the steps in order. A step may be
// taken again, and a step without a difference is skipped. So a failed run can be repeated,
// and a run after a successful one changes nothing.
//
// A record in Vault has the things that it created. Everything else belongs to somebody
// else. It leaves that alone unless Options.Adopt is set.
package apply

import (
	"slices"
	"time"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/credential"
	"vault-plugin-secrets-mcp/backend/pin"
)

// desired is the state that the files describe.
type desired struct {
	root     string         // the folder
	config   map[string]any // the fields of config that a file names
	configAt place          // where the last of its blocks stands
	kms      *kmsSettings   // nil: no file says anything of it
	upstream *upstream      // nil: no file asks for upstream credentials
	signIn   *signIn        // nil: no file says how people sign in
	servers  []server
	policies []policySource
	roles    []role
	clients  []client
	misnamed []client // clients whose name is refused or taken: the engine cannot be asked about them
	notes    []string // about parts of the files without a meaning here
	mistakes []error  // in the files
}

// server is an entry of the registry. Values of headers, env and files, the URL's query and
// the data of credentials are secrets.
type server struct {
	at          place
	name        string
	transport   string
	url         string
	command     string
	args        []string
	env         map[string]string
	headers     map[string]string
	shared      bool
	description string
	disabled    *bool             // nil: the file does not say, so a stopped server or client stays stopped
	concealed   map[string]string // texts to show in the place of a url, a command and args that hold a secret

	credentials   map[string]credential.Spec
	files         map[string]string
	vaultPolicies []string

	// As with disabled: a field that the file leaves out stays, so no file takes pins off by the way.
	pin      *string
	pinKinds *[]string
}

// policySource is a policy in the form of Claude Code's managed settings.
type policySource struct {
	at       place
	name     string
	managed  bool
	settings map[string]any // only the keys that are part of a policy
	read     map[string]any // the same, as the engine reads them back
}

// client is an identity. Where the file brings its token, accessToken is set, or
// ciphertext, which is one encrypted under the mount's KMS key; else the engine
// issues one.
type client struct {
	at          place
	name        string
	accessToken string
	ciphertext  string
	fields      map[string]any // as the engine reads them back
}

// entry is the server as the engine would hold it.
func (s *server) entry() check.Server {
	e := check.Server{
		Transport: s.transport, URL: s.url, Command: s.command, Args: s.args,
		Env: s.env, Headers: s.headers, Shared: s.shared, Description: s.description,
		Disabled:    s.disabled != nil && *s.disabled,
		Credentials: s.credentials, Files: s.files, VaultPolicies: s.vaultPolicies,
	}
	if s.pin != nil {
		e.Pin = pin.Mode(*s.pin)
	}
	if s.pinKinds != nil {
		for _, kind := range *s.pinKinds {
			e.PinKinds = append(e.PinKinds, pin.Kind(kind))
		}
	}
	return e
}

// settings are the client's as the engine would hold them.
func (c *client) settings() check.Client {
	list := func(field string) []string {
		values, _ := c.fields[field].([]string)
		return values
	}
	duration := func(field string) time.Duration {
		n, _ := c.fields[field].(int64)
		return time.Duration(n) * time.Second
	}
	metadata, _ := c.fields["metadata"].(map[string]string)
	seal, _ := c.fields["seal"].(string)
	role, _ := c.fields["role"].(string)
	return check.Client{
		Rights: rightsOf(c.fields), Role: role,
		Policies: list("policies"), TokenBoundCIDRs: list("token_bound_cidrs"),
		TokenTTL: duration("token_ttl"), TokenMaxTTL: duration("token_max_ttl"),
		Metadata: metadata, Seal: seal, Disabled: c.fields["disabled"] == true,
		UpstreamPolicies: list("upstream_policies"),
	}
}

// clientFields are the settings of a client with nothing set. Fields that a file does not
// name get these values, so that removing a line from a file undoes its effect.
func clientFields() map[string]any {
	return map[string]any{
		"allowed_servers":   []string{},
		"allowed_tools":     nil,
		"denied_tools":      []string{},
		"allowed_prompts":   nil,
		"denied_prompts":    []string{},
		"allowed_resources": nil,
		"denied_resources":  []string{},
		"rate_limit":        float64(0),
		"rate_burst":        int64(0),
		"role":              "",
		"policies":          []string{},
		"token_bound_cidrs": []string{},
		"token_ttl":         int64(0),
		"token_max_ttl":     int64(0),
		"metadata":          map[string]string{},
		"upstream_policies": nil,
		"sign_in":           false,
	}
}

// unique keeps the first of each. It never returns nil.
func unique(values []string) []string {
	kept := make([]string, 0, len(values))
	for _, v := range values {
		if !slices.Contains(kept, v) {
			kept = append(kept, v)
		}
	}
	return kept
}
