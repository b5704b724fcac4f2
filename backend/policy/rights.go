package policy

import (
	"fmt"
	"slices"
)

// Lists say which servers are granted, and which of their tools, prompts and resources. A
// list of allowed items that is nil is unset and allows all of them; one that is empty
// allows none. Rules are written as [ValidateRule] takes them.
type Lists struct {
	AllowedServers   []string `json:"allowed_servers,omitempty"`
	AllowedTools     []string `json:"allowed_tools"`
	DeniedTools      []string `json:"denied_tools,omitempty"`
	AllowedPrompts   []string `json:"allowed_prompts,omitzero"`
	DeniedPrompts    []string `json:"denied_prompts,omitempty"`
	AllowedResources []string `json:"allowed_resources,omitzero"`
	DeniedResources  []string `json:"denied_resources,omitempty"`
}

// Rights are what one source grants to a client: its own fields, or those of its role.
type Rights struct {
	Role string `json:"role,omitempty"` // the role's name; "": the client's own fields

	// Missing: there is no such role. A client with a missing role reaches nothing at all.
	Missing bool `json:"missing,omitempty"`

	Lists
}

// RoleOf returns the name of the role among the sources; "" if there is none.
func RoleOf(rights []Rights) string {
	for i := range rights {
		if rights[i].Role != "" {
			return rights[i].Role
		}
	}
	return ""
}

// AllowsServer reports whether a source admits the server of that name. Nothing admits it
// where one source is missing.
func AllowsServer(rights []Rights, name string) bool {
	return missing(rights) < 0 && slices.ContainsFunc(rights, func(r Rights) bool { return r.admits(name) })
}

// missing returns the place of the first source that is missing, -1 if there is none.
func missing(rights []Rights) int {
	return slices.IndexFunc(rights, func(r Rights) bool { return r.Missing })
}

// admits reports whether the source's own allowed_servers admits a name.
func (r *Rights) admits(name string) bool {
	return slices.Contains(r.AllowedServers, name) || slices.Contains(r.AllowedServers, wildcard)
}

// source names the source, for an explanation.
func (r *Rights) source(client string) string {
	if r.Role != "" {
		return fmt.Sprintf("role %q", r.Role)
	}
	return fmt.Sprintf("client %q", client)
}

// Item is a kind of thing that a server offers and that rules are about.
type Item string

// The items.
const (
	Tool     Item = "tool"
	Prompt   Item = "prompt"
	Resource Item = "resource"
)

var items = []Item{Tool, Prompt, Resource}

// of returns the rules about one kind of item.
func (l *Lists) of(item Item) (allowed, denied []string) {
	switch item {
	case Tool:
		return l.AllowedTools, l.DeniedTools
	case Prompt:
		return l.AllowedPrompts, l.DeniedPrompts
	case Resource:
		return l.AllowedResources, l.DeniedResources
	}
	return []string{}, nil
}

// HasRules reports whether the source limits more than the servers.
func (r Rights) HasRules() bool {
	return r.Missing || slices.ContainsFunc(items, func(item Item) bool {
		allowed, denied := r.of(item)
		return allowed != nil || len(denied) > 0
	})
}

// SameRules reports whether both sources have the same rules about one kind of item.
func (r *Rights) SameRules(item Item, other *Rights) bool {
	allowed, denied := r.of(item)
	otherAllowed, otherDenied := other.of(item)
	return r.Missing == other.Missing && slices.Equal(r.AllowedServers, other.AllowedServers) &&
		slices.Equal(allowed, otherAllowed) && (allowed == nil) == (otherAllowed == nil) && slices.Equal(denied, otherDenied)
}

// RateLimit is how many requests a second a client may send to a gateway. The zero value is
// no limit.
type RateLimit struct {
	Rate  float64 // requests a second
	Burst int     // how many at once
}

// Lower returns the one of two limits with the lower rate; of two with the same rate, the one
// with the lower burst.
func (l RateLimit) Lower(other RateLimit) RateLimit {
	switch {
	case other.Rate == 0:
		return l
	case l.Rate == 0, other.Rate < l.Rate, other.Rate == l.Rate && other.Burst < l.Burst:
		return other
	}
	return l
}
