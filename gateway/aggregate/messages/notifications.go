package messages

import (
	"slices"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// NotificationSet is a set of notifications that a client wants.
type NotificationSet struct {
	Lists     Changes
	Resources []string // URIs of updated resources
	Tasks     []string // ids of tasks whose status changes
}

// Empty reports whether the client wants none.
func (n NotificationSet) Empty() bool {
	return n.Lists == 0 && len(n.Resources) == 0 && len(n.Tasks) == 0
}

// Includes reports whether the notification is in the set.
func (n NotificationSet) Includes(e *envelope.Envelope, message []byte) bool {
	for _, l := range ListNotifications {
		if l.Method == e.Method {
			return n.Lists&l.Change != 0
		}
	}
	if e.Method != protocol.MethodUpdated || e.URI.None() {
		return false
	}
	uri, _ := StringOf(e.URI.Of(message))
	return slices.Contains(n.Resources, uri)
}

// Member is the set as a member of a subscriptions/listen, or of its acknowledgement.
func (n NotificationSet) Member() []byte {
	var set [][]byte
	for _, l := range ListNotifications {
		set = append(set, flag(l.flag, n.Lists&l.Change != 0))
	}
	if len(n.Resources) > 0 {
		set = append(set, protocol.Member("resourceSubscriptions", protocol.Strings(n.Resources)))
	}
	if len(n.Tasks) > 0 {
		set = append(set, protocol.Member("taskIds", protocol.Strings(n.Tasks)))
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

// Changes are lists that have changed.
type Changes uint8

const (
	ChangedTools Changes = 1 << iota
	ChangedPrompts
	ChangedResources

	ChangedAll = ChangedTools | ChangedPrompts | ChangedResources
)

// ChangeOf is the change of one list.
func ChangeOf(kind rewrite.Kind) Changes {
	switch kind {
	case rewrite.Tools:
		return ChangedTools
	case rewrite.Prompts:
		return ChangedPrompts
	case rewrite.Tasks:
		return 0 // servers announce each task by itself
	default:
		return ChangedResources
	}
}

// Choose returns the changes of those lists that are true.
func Choose(tools, prompts, resources bool) Changes {
	var c Changes
	if tools {
		c |= ChangedTools
	}
	if prompts {
		c |= ChangedPrompts
	}
	if resources {
		c |= ChangedResources
	}
	return c
}

// ListNotifications has, for each change, the notification about it and its name in a
// subscriptions/listen.
var ListNotifications = []struct {
	Change       Changes
	Method, flag string
}{
	{ChangedTools, protocol.MethodToolsChanged, "toolsListChanged"},
	{ChangedPrompts, protocol.MethodPromptsChanged, "promptsListChanged"},
	{ChangedResources, protocol.MethodResourcesChanged, "resourcesListChanged"},
}
