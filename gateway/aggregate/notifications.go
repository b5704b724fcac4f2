package aggregate

import (
	"slices"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// notificationSet is a set of notifications that a client wants.
type notificationSet struct {
	lists     changes
	resources []string // URIs of updated resources
	tasks     []string // ids of tasks whose status changes
}

func (n notificationSet) empty() bool {
	return n.lists == 0 && len(n.resources) == 0 && len(n.tasks) == 0
}

// includes reports whether the notification is in the set.
func (n notificationSet) includes(e *envelope.Envelope, message []byte) bool {
	for _, l := range listNotifications {
		if l.method == e.Method {
			return n.lists&l.change != 0
		}
	}
	if e.Method != protocol.MethodUpdated || e.URI.None() {
		return false
	}
	uri, _ := stringOf(e.URI.Of(message))
	return slices.Contains(n.resources, uri)
}

// member is the set as a member of a subscriptions/listen, or of its acknowledgement.
func (n notificationSet) member() []byte {
	var set [][]byte
	for _, l := range listNotifications {
		set = append(set, flag(l.flag, n.lists&l.change != 0))
	}
	if len(n.resources) > 0 {
		set = append(set, protocol.Member("resourceSubscriptions", protocol.Strings(n.resources)))
	}
	if len(n.tasks) > 0 {
		set = append(set, protocol.Member("taskIds", protocol.Strings(n.tasks)))
	}
	return protocol.Member("notifications", protocol.Object(set...))
}

// flag is a member that is true; nothing unless it is set.
func flag(key string, set bool) []byte {
	if !set {
		return nil
	}
	return protocol.Member(key, []byte("true"))
}

// empty is a member that is an empty object; nothing unless it is set.
func empty(key string, set bool) []byte {
	if !set {
		return nil
	}
	return protocol.Member(key, []byte("{}"))
}

// changes are lists that have changed.
type changes uint8

const (
	changedTools changes = 1 << iota
	changedPrompts
	changedResources

	changedAll = changedTools | changedPrompts | changedResources
)

// changeOf is the change of one list.
func changeOf(kind rewrite.Kind) changes {
	switch kind {
	case rewrite.Tools:
		return changedTools
	case rewrite.Prompts:
		return changedPrompts
	case rewrite.Tasks:
		return 0 // servers announce each task by itself
	default:
		return changedResources
	}
}

func choose(tools, prompts, resources bool) changes {
	var c changes
	if tools {
		c |= changedTools
	}
	if prompts {
		c |= changedPrompts
	}
	if resources {
		c |= changedResources
	}
	return c
}

// listNotifications has, for each change, the notification about it and its name in a
// subscriptions/listen.
var listNotifications = []struct {
	change       changes
	method, flag string
}{
	{changedTools, protocol.MethodToolsChanged, "toolsListChanged"},
	{changedPrompts, protocol.MethodPromptsChanged, "promptsListChanged"},
	{changedResources, protocol.MethodResourcesChanged, "resourcesListChanged"},
}
