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

// The decisions about an item that the rules do not let through.
const (
	ToolNotAllowed     = "tool-not-allowed"
	PromptNotAllowed   = "prompt-not-allowed"
	ResourceNotAllowed = "resource-not-allowed"
)

// The decisions about an item without an approved definition, at a server with
// pin=enforce.
const (
	ToolNotApproved     = "tool-not-approved"
	PromptNotApproved   = "prompt-not-approved"
	ResourceNotApproved = "resource-not-approved"
)

// ClientDisabled is the decision of evaluate about a disabled client. A gateway never
// makes that decision: it refuses the client's tokens.
const ClientDisabled = "client-disabled"

// The checks behind a decision, in the order in which they are made.
const (
	CheckClient         = "client" // of one that is disabled
	CheckServer         = "server"
	CheckAllowedServers = "allowed_servers"
	CheckPolicies       = "policies"
	CheckDenied         = DeniedSetting
	CheckAllowed        = AllowedSetting
	CheckToolRules      = "tool-rules" // of these three at most one is made, about an item
	CheckPromptRules    = "prompt-rules"
	CheckResourceRules  = "resource-rules"
	CheckPins           = "pins" // of an item, too, at a server with pins
)

// The results of a check.
const (
	Passed  = "passed"
	Blocked = "blocked"
	Skipped = "skipped" // decided by an earlier check
)

// Decision is the answer to "may this client reach this server?" or "may it use this tool?",
// with its explanation. It never holds the query of a server's URL.
type Decision struct {
	Allowed  bool    `json:"allowed"`
	Decision string  `json:"decision"`
	Reason   string  `json:"reason"`           // for an administrator: the cause of the decision, and how to change it
	Entry    string  `json:"entry,omitempty"`  // the policy's entry that decided, as JSON, or the rule
	Source   string  `json:"source,omitempty"` // the policy, or the list of rules, that the entry stands in
	Checks   []Check `json:"checks"`           // each check, in order
}

// Check is one step of a decision.
type Check struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Detail string `json:"detail"`
}

// Server is the subject of a decision: a server as it is registered, or as it would be.
type Server struct {
	Name    string
	Stdio   bool   // started as a process, and matched by command; else remote, by URL
	URL     string // of a remote server
	Command string // of a stdio server
	Args    []string
}

// Unknown is the decision about a name under which no server is registered.
func Unknown(name string) Decision {
	reason := fmt.Sprintf("no server is registered under the name %q: register it with a write to servers/%s, or correct the name", name, name)
	return Decision{
		Decision: UnknownServer, Reason: reason,
		Checks: skipRest([]Check{{CheckServer, Blocked, reason}}, CheckAllowedServers, CheckPolicies, CheckDenied, CheckAllowed),
	}
}

// Stopped is the decision about a server that is disabled, for every client.
func Stopped(name string) Decision {
	reason := fmt.Sprintf("server %q is disabled, so no client reaches it: write servers/%s with disabled=false to enable it", name, name)
	return Decision{
		Decision: ServerDisabled, Reason: reason,
		Checks: skipRest([]Check{{CheckServer, Blocked, reason}}, CheckAllowedServers, CheckPolicies, CheckDenied, CheckAllowed),
	}
}

// Decide makes the whole decision about a server: a source of the client's rights must admit
// the name, and the policy must admit the server behind it.
func Decide(client string, rights []Rights, p *Policy, server *Server) Decision {
	checks := []Check{{CheckServer, Passed, fmt.Sprintf("server %q is registered", server.Name)}}
	if !AllowsServer(rights, server.Name) {
		reason := whyNotAdmitted(client, rights, server.Name)
		return Decision{
			Decision: NotInAllowedServers, Reason: reason,
			Checks: skipRest(append(checks, Check{CheckAllowedServers, Blocked, reason}), CheckPolicies, CheckDenied, CheckAllowed),
		}
	}
	d := p.Evaluate(server)
	d.Checks = slices.Concat(checks, []Check{{CheckAllowedServers, Passed, whyAdmitted(client, rights, server.Name)}}, d.Checks)
	return d
}

// whyAdmitted names the first source that admits the server.
func whyAdmitted(client string, rights []Rights, server string) string {
	i := slices.IndexFunc(rights, func(r Rights) bool { return r.admits(server) })
	if slices.Contains(rights[i].AllowedServers, server) {
		return fmt.Sprintf("allowed_servers of %s names %q", rights[i].source(client), server)
	}
	return fmt.Sprintf("allowed_servers of %s holds %q", rights[i].source(client), wildcard)
}

func whyNotAdmitted(client string, rights []Rights, server string) string {
	if i := missing(rights); i >= 0 {
		return whyMissing(client, rights[i].Role)
	}
	lists, places := []string{"its allowed_servers is empty"}, []string{"the client"}
	for i := range rights {
		if r := &rights[i]; r.Role == "" {
			lists[0] = "its allowed_servers is " + listed(r.AllowedServers)
		} else {
			lists = append(lists, fmt.Sprintf("that of its role %q is %s", r.Role, listed(r.AllowedServers)))
			places = append(places, "the role")
		}
	}
	return fmt.Sprintf("client %q may not reach server %q: %s. Add %q to allowed_servers of %s",
		client, server, strings.Join(lists, ", "), server, strings.Join(places, " or of "))
}

// whyMissing says why the client of a role that does not exist reaches nothing.
func whyMissing(client, role string) string {
	return fmt.Sprintf("client %q reaches nothing, since there is no role %q: create it (roles/%s), or take it from the client",
		client, role, role)
}

func listed(names []string) string {
	if len(names) == 0 {
		return "empty"
	}
	return listNames(names)
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
