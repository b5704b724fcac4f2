package policy

import (
	"fmt"
	"slices"
	"strings"
)

// The kinds of decisions.
const (
	Allowed             = "allowed"
	BlockedDeny         = "blocked-deny"           // an entry of a deny-list matches
	BlockedAllow        = "blocked-allow"          // no entry of the allow-lists matches
	NotInAllowedServers = "not-in-allowed-servers" // the client's own list does not name the server
	UnknownServer       = "unknown-server"         // no server is registered under the name
	ServerDisabled      = "server-disabled"        // the server is registered, and stopped
)

// ClientDisabled is what evaluate says of a client of which no token is accepted. A
// gateway never comes to that decision: it refuses the token.
const ClientDisabled = "client-disabled"

// The checks behind a decision, in the order in which they are made.
const (
	CheckClient         = "client" // of one that is disabled
	CheckServer         = "server"
	CheckAllowedServers = "allowed_servers"
	CheckPolicies       = "policies"
	CheckDenied         = DeniedSetting
	CheckAllowed        = AllowedSetting
)

// The results of a check.
const (
	Passed  = "passed"
	Blocked = "blocked"
	Skipped = "skipped" // decided by an earlier check
)

// Decision is the answer to "may this client reach this server?", with its
// explanation. It never holds the query of a server's URL.
type Decision struct {
	Allowed  bool    `json:"allowed"`
	Decision string  `json:"decision"`
	Reason   string  `json:"reason"`           // for an administrator: why, and what would change it
	Entry    string  `json:"entry,omitempty"`  // the policy's entry that decided, as JSON
	Source   string  `json:"source,omitempty"` // the policy that the entry stands in
	Checks   []Check `json:"checks"`           // each check, in order
}

// Check is one step of a decision.
type Check struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Detail string `json:"detail"`
}

// Server is what a decision is about: a server as it is registered, or as it
// would be.
type Server struct {
	Name    string
	Stdio   bool   // started as a process, and matched by command; else remote, by URL
	URL     string // of a remote server
	Command string // of a stdio server
	Args    []string
}

// AllowsServer reports whether a client's allowed_servers admits a name: it is
// in the list, or the list holds "*".
func AllowsServer(allowed []string, name string) bool {
	return slices.Contains(allowed, name) || slices.Contains(allowed, wildcard)
}

// Unknown is the decision about a name under which no server is registered.
func Unknown(name string) Decision {
	reason := fmt.Sprintf("no server is registered under the name %q: register it with a write to servers/%s, or correct the name", name, name)
	return Decision{
		Decision: UnknownServer, Reason: reason,
		Checks: skipRest([]Check{{CheckServer, Blocked, reason}}, CheckAllowedServers, CheckPolicies, CheckDenied, CheckAllowed),
	}
}

// Stopped is the decision about a server that is disabled, whoever asks.
func Stopped(name string) Decision {
	reason := fmt.Sprintf("server %q is disabled, so no client reaches it: write servers/%s with disabled=false to enable it", name, name)
	return Decision{
		Decision: ServerDisabled, Reason: reason,
		Checks: skipRest([]Check{{CheckServer, Blocked, reason}}, CheckAllowedServers, CheckPolicies, CheckDenied, CheckAllowed),
	}
}

// Decide makes the whole decision: the client's own list of servers must admit
// the name, and the policy must admit the server behind it.
func Decide(client string, allowed []string, p *Policy, server *Server) Decision {
	checks := []Check{{CheckServer, Passed, fmt.Sprintf("server %q is registered", server.Name)}}
	if !AllowsServer(allowed, server.Name) {
		reason := fmt.Sprintf("client %q may not reach server %q: %s. Add %q to allowed_servers of the client",
			client, server.Name, listServers(allowed), server.Name)
		return Decision{
			Decision: NotInAllowedServers, Reason: reason,
			Checks: skipRest(append(checks, Check{CheckAllowedServers, Blocked, reason}), CheckPolicies, CheckDenied, CheckAllowed),
		}
	}
	detail := fmt.Sprintf("allowed_servers of client %q names %q", client, server.Name)
	if !slices.Contains(allowed, server.Name) {
		detail = fmt.Sprintf("allowed_servers of client %q holds %q", client, wildcard)
	}
	d := p.Evaluate(server)
	d.Checks = slices.Concat(checks, []Check{{CheckAllowedServers, Passed, detail}}, d.Checks)
	return d
}

// Disabled is the decision about a client that is disabled, of which d would be the
// decision if it were not.
func Disabled(client string, d Decision) Decision {
	reason := fmt.Sprintf("client %q is disabled, so none of its tokens is accepted: write clients/%s with disabled=false to enable it. The decision would then be: %s",
		client, client, d.Decision)
	rest := make([]string, len(d.Checks))
	for i := range d.Checks {
		rest[i] = d.Checks[i].Check
	}
	return Decision{Decision: ClientDisabled, Reason: reason, Checks: skipRest([]Check{{CheckClient, Blocked, reason}}, rest...)}
}

func listServers(allowed []string) string {
	if len(allowed) == 0 {
		return "its allowed_servers is empty"
	}
	return "its allowed_servers is " + listNames(allowed)
}

// maxListed bounds how many names an explanation lists.
const maxListed = 10

func listNames(names []string) string {
	if extra := len(names) - maxListed; extra > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), extra)
	}
	return strings.Join(names, ", ")
}

func skipRest(checks []Check, rest ...string) []Check {
	for _, name := range rest {
		checks = append(checks, Check{name, Skipped, "decided before"})
	}
	return checks
}
