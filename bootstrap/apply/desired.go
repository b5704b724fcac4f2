// Package apply brings Vault to the state that a folder of files describes: the
// engine in the plugin catalog and on its mount, ACL policies, the gateway's
// login, servers, policies and clients.
//
// It first plans, by reading alone: each step carries the difference between
// what is there and what the files say. Only then, and only where every step is
// possible, it works the steps off. Each may be taken again, and one whose
// difference is empty is not taken at all, so a run that failed is repeated and a
// run that succeeded changes nothing the next time.
//
// A record in Vault, record, remembers what it created. Everything else is
// somebody else's, and left alone unless Options.Adopt says otherwise.
package apply

import (
	"fmt"
	"slices"
)

// desired is what the files say.
type desired struct {
	config   map[string]any // the fields of config that a file names
	kms      *kmsSettings   // nil: no file says anything of it
	servers  []server
	policies []policySource
	clients  []client
	notes    []string // what is in the files and has no meaning here
}

// server is an entry of the registry. Values of Headers and Env and the URL's
// query are secrets.
type server struct {
	source      string // the file, for errors
	name        string
	transport   string
	url         string
	command     string
	args        []string
	env         map[string]string
	headers     map[string]string
	shared      bool
	description string
}

// policySource is a policy in the form of Claude Code's managed settings.
type policySource struct {
	source   string
	name     string
	managed  bool
	settings map[string]any // only the keys that are part of a policy
	read     map[string]any // the same, as the engine reads them back
}

// client is an identity. Where the file brings its token, accessToken is set, or
// ciphertext, which is one encrypted under the mount's KMS key; else the engine
// issues one.
type client struct {
	source      string
	name        string
	accessToken string
	ciphertext  string
	fields      map[string]any // as the engine reads them back
}

// check finds what stands twice in the files.
func (d *desired) check() error {
	seen := map[string]string{}
	add := func(kind, name, source string) error {
		key := kind + " " + name
		if first, twice := seen[key]; twice {
			return fmt.Errorf("%s: the %s %q is in %s already: keep one of them", source, kind, name, first)
		}
		seen[key] = source
		return nil
	}
	for _, s := range d.servers {
		if err := add(kindServer, s.name, s.source); err != nil {
			return err
		}
	}
	for _, p := range d.policies {
		if err := add(kindPolicy, p.name, p.source); err != nil {
			return err
		}
	}
	for _, c := range d.clients {
		if err := add(kindClient, c.name, c.source); err != nil {
			return err
		}
	}
	return nil
}

// clientFields are the settings of a client with nothing set. What a file does
// not name gets these: taking a line out of a file takes its effect back.
func clientFields() map[string]any {
	return map[string]any{
		"allowed_servers":   []string{},
		"allowed_tools":     nil,
		"denied_tools":      []string{},
		"policies":          []string{},
		"token_bound_cidrs": []string{},
		"token_ttl":         int64(0),
		"token_max_ttl":     int64(0),
		"metadata":          map[string]string{},
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
