package messages

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unique"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// Capabilities are those of a server that /mcp passes on.
type Capabilities struct {
	tools, prompts, resources, Subscribe, completions, Logging bool

	apps, TasksExtension             bool // extensions
	tasks, tasksList, tasksCancelled bool // those of 2025-11-25: of tools, and what can be done with them
}

// or returns the capabilities that at least one of both has.
func (c Capabilities) or(d Capabilities) Capabilities {
	return Capabilities{
		tools: c.tools || d.tools, prompts: c.prompts || d.prompts,
		resources: c.resources || d.resources, Subscribe: c.Subscribe || d.Subscribe,
		completions: c.completions || d.completions, Logging: c.Logging || d.Logging,
		apps: c.apps || d.apps, TasksExtension: c.TasksExtension || d.TasksExtension,
		tasks: c.tasks || d.tasks, tasksList: c.tasksList || d.tasksList, tasksCancelled: c.tasksCancelled || d.tasksCancelled,
	}
}

// List reports whether the server has such a list. All servers are asked for tools, which
// most have, whatever they declare.
func (c Capabilities) List(kind rewrite.Kind) bool {
	switch kind {
	case rewrite.Tools:
		return true
	case rewrite.Prompts:
		return c.prompts
	case rewrite.Tasks:
		return c.tasksList
	default:
		return c.resources
	}
}

// Description is a server's answer to initialize or server/discover.
type Description struct {
	Has          Capabilities
	Version      string                // of the session
	Instructions unique.Handle[string] // most clients are told the same
}

// maxVersion bounds a server's protocol version, which is kept with each session and is
// sent with each request.
const maxVersion = 64

var errLongVersion = errors.New("the server's protocol version is longer than any")

// ReadDescription reads a response to initialize or server/discover.
func ReadDescription(message []byte) (Description, error) {
	var m struct {
		Result struct {
			ProtocolVersion string `json:"protocolVersion"`
			Instructions    string `json:"instructions"`
			Capabilities    struct {
				Tools, Prompts, Completions, Logging *struct{}
				Resources                            *struct{ Subscribe bool }
				Extensions                           map[string]json.RawMessage
				Tasks                                struct {
					List, Cancel *struct{}
					Requests     struct{ Tools struct{ Call *struct{} } }
				}
			} `json:"capabilities"`
		} `json:"result"`
	}
	if err := json.Unmarshal(message, &m); err != nil {
		return Description{}, err
	}
	if len(m.Result.ProtocolVersion) > maxVersion {
		return Description{}, errLongVersion
	}
	if len(m.Result.Instructions) > maxInstructions {
		m.Result.Instructions = "" // they would be left out anyway
	}
	c := m.Result.Capabilities
	session := m.Result.ProtocolVersion != "" // which has the tasks of 2025-11-25, and not the extension's
	return Description{
		Has: Capabilities{
			tools: c.Tools != nil, prompts: c.Prompts != nil,
			resources: c.Resources != nil, Subscribe: c.Resources != nil && c.Resources.Subscribe,
			completions: c.Completions != nil, Logging: c.Logging != nil,
			apps: c.Extensions[protocol.ExtensionApps] != nil, TasksExtension: !session && c.Extensions[protocol.ExtensionTasks] != nil,
			tasks: session && c.Tasks.Requests.Tools.Call != nil, tasksList: c.Tasks.List != nil, tasksCancelled: c.Tasks.Cancel != nil,
		},
		Version:      m.Result.ProtocolVersion,
		Instructions: unique.Make(m.Result.Instructions),
	}, nil
}

// maxInstructions bounds the servers' instructions in bytes: clients show them to a model.
const maxInstructions = 32 << 10

// Descriptions are those of all servers, as one.
type Descriptions struct {
	has          Capabilities
	instructions strings.Builder
}

// Add adds what a server has, and its instructions as the client may have them.
func (d *Descriptions) Add(server string, has Capabilities, text string) {
	d.has = d.has.or(has)
	if text == "" || d.instructions.Len()+len(text) > maxInstructions {
		return
	}
	if d.instructions.Len() > 0 {
		d.instructions.WriteString("\n\n")
	}
	d.instructions.WriteString("# " + server + "\n\n" + text)
}

// Result is the answer, with further members in front. All lists are announced as changing,
// since the client's access may change at any time.
func (d *Descriptions) Result(stateless bool, first ...[]byte) []byte {
	changing := protocol.Member("listChanged", []byte("true"))
	has := [][]byte{protocol.Member("tools", protocol.Object(changing))}
	if d.has.prompts {
		has = append(has, protocol.Member("prompts", protocol.Object(changing)))
	}
	if d.has.resources || d.has.Subscribe {
		has = append(has, protocol.Member("resources", protocol.Object(flag("subscribe", d.has.Subscribe), changing)))
	}
	if d.has.completions {
		has = append(has, protocol.Member("completions", protocol.Object()))
	}
	if d.has.Logging && !stateless {
		has = append(has, protocol.Member("logging", protocol.Object()))
	}
	if d.has.tasks && !stateless {
		has = append(has, protocol.Member("tasks", protocol.Object(
			empty("list", d.has.tasksList), empty("cancel", d.has.tasksCancelled),
			protocol.Member("requests", protocol.Object(protocol.Member("tools", protocol.Object(empty("call", true))))))))
	}
	if tasks := d.has.TasksExtension && stateless; d.has.apps || tasks {
		has = append(has, protocol.Member("extensions", protocol.Object(
			empty(protocol.ExtensionApps, d.has.apps), empty(protocol.ExtensionTasks, tasks))))
	}
	members := append(slices.Clone(first), protocol.Member("capabilities", protocol.Object(has...)))
	if d.instructions.Len() > 0 {
		members = append(members, protocol.StringMember("instructions", d.instructions.String()))
	}
	return protocol.Object(members...)
}

// ListsStateless reports whether the answer, a result or an error, lists the version
// without sessions among those that the server supports.
func ListsStateless(message []byte) bool {
	var m struct {
		Result struct{ SupportedVersions []string }
		Error  struct{ Data struct{ Supported []string } }
	}
	return json.Unmarshal(message, &m) == nil &&
		(slices.Contains(m.Result.SupportedVersions, protocol.VersionStateless) ||
			slices.Contains(m.Error.Data.Supported, protocol.VersionStateless))
}

// Changes are the lists that a server with these capabilities has.
func (c Capabilities) Changes() Changes {
	return Choose(c.tools, c.prompts, c.resources)
}
