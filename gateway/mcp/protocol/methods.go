package protocol

import (
	"slices"
)

// Methods of requests.
const (
	MethodInitialize    = "initialize"
	MethodPing          = "ping"
	MethodDiscover      = "server/discover"
	MethodListen        = "subscriptions/listen"
	MethodToolsList     = "tools/list"
	MethodToolsCall     = "tools/call"
	MethodPromptsList   = "prompts/list"
	MethodPromptsGet    = "prompts/get"
	MethodResourcesList = "resources/list"
	MethodResourcesRead = "resources/read"
	MethodTemplatesList = "resources/templates/list"
	MethodSubscribe     = "resources/subscribe"
	MethodUnsubscribe   = "resources/unsubscribe"
	MethodComplete      = "completion/complete"
	MethodSetLevel      = "logging/setLevel"

	// Those of tasks. 2025-11-25 has get, result, list and cancel. The extension
	// io.modelcontextprotocol/tasks of 2026-07-28 has get, update and cancel.
	MethodTasksGet    = PrefixTasks + "get"
	MethodTasksResult = PrefixTasks + "result"
	MethodTasksUpdate = PrefixTasks + "update"
	MethodTasksCancel = PrefixTasks + "cancel"
	MethodTasksList   = PrefixTasks + "list"

	// PrefixTasks begins all methods of tasks, also of those to come.
	PrefixTasks = "tasks/"
)

// Extensions of the protocol.
const (
	ExtensionApps  = "io.modelcontextprotocol/ui"
	ExtensionTasks = "io.modelcontextprotocol/tasks"
)

// Methods of a server's requests to its client. Since 2026-07-28 they stand in results: see
// [ResultInputRequired].
const (
	MethodElicit    = "elicitation/create"
	MethodSample    = "sampling/createMessage"
	MethodRootsList = "roots/list"
)

// Values of resultType, of results since 2026-07-28.
const (
	ResultComplete = "complete"

	// ResultInputRequired: the server asks for something before it can complete the request.
	// The client sends the request again, with its answers.
	//
	// https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr
	ResultInputRequired = "input_required"
)

// Methods of notifications.
const (
	MethodInitialized      = "notifications/initialized"
	MethodCancelled        = "notifications/cancelled"
	MethodProgress         = "notifications/progress"
	MethodMessage          = "notifications/message"
	MethodUpdated          = "notifications/resources/updated"
	MethodToolsChanged     = "notifications/tools" + SuffixListChanged
	MethodPromptsChanged   = "notifications/prompts" + SuffixListChanged
	MethodResourcesChanged = "notifications/resources" + SuffixListChanged
	MethodRootsChanged     = "notifications/roots" + SuffixListChanged

	MethodTaskStatus  = "notifications/tasks/status" // of 2025-11-25
	MethodTaskChanged = "notifications/tasks"        // of the extension

	// MethodAcknowledged is the first message on a stream of [MethodListen].
	MethodAcknowledged = "notifications/subscriptions/acknowledged"

	// SuffixListChanged ends the method of each notification about a list.
	SuffixListChanged = "/list_changed"
)

// Keys of params._meta with a meaning in the protocol.
const (
	MetaProtocolVersion    = "io.modelcontextprotocol/protocolVersion"
	MetaSubscriptionID     = "io.modelcontextprotocol/subscriptionId"
	MetaClientInfo         = "io.modelcontextprotocol/clientInfo"
	MetaClientCapabilities = "io.modelcontextprotocol/clientCapabilities"
	MetaLogLevel           = "io.modelcontextprotocol/logLevel"
	MetaServerInfo         = "io.modelcontextprotocol/serverInfo"
	MetaProgressToken      = "progressToken"
	MetaRelatedTask        = "io.modelcontextprotocol/related-task"
)

// clientMethods are the methods that a client may send in the versions of this package.
var clientMethods = []string{
	MethodInitialize, MethodPing, MethodDiscover, MethodListen,
	MethodToolsList, MethodToolsCall, MethodPromptsList, MethodPromptsGet,
	MethodResourcesList, MethodResourcesRead, MethodTemplatesList, MethodSubscribe, MethodUnsubscribe,
	MethodComplete, MethodSetLevel,
	MethodTasksGet, MethodTasksResult, MethodTasksUpdate, MethodTasksCancel, MethodTasksList,
	MethodInitialized, MethodCancelled, MethodProgress, MethodRootsChanged,
}

// IsClientMethod reports whether the protocol lets a client send the method. It is
// false for methods of extensions, but those of tasks.
func IsClientMethod(method string) bool { return slices.Contains(clientMethods, method) }

// Intern returns the bytes as a string, without a copy for the methods and versions of
// most messages.
func Intern(b []byte) string {
	if s, ok := common[string(b)]; ok {
		return s
	}
	return string(b)
}

var common = func() map[string]string {
	m := make(map[string]string)
	for _, list := range [...][]string{clientMethods, SessionVersions, {MethodMessage, VersionStateless}} {
		for _, s := range list {
			m[s] = s
		}
	}
	return m
}()
