package rewrite

import (
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
)

// Listen has the notifications that the client of a subscriptions/listen wants.
type Listen struct {
	ToolsListChanged, PromptsListChanged, ResourcesListChanged bool

	// Resources and Tasks are those whose changes it wants, without those that no
	// server can have.
	Resources []Resource
	Tasks     []Task
}

// Resource is a resource of one server.
type Resource struct {
	Server string
	URI    string // on that server
}

// Task is a task of one server.
type Task struct {
	Server string
	ID     string // on that server
}

var (
	listenKeys       = []string{"notifications"}
	notificationKeys = []string{"toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions", "taskIds"}
)

// ReadListen reads the params of a subscriptions/listen. An error means that they are
// not valid, or could be read in two ways.
func ReadListen(e *envelope.Envelope, message []byte) (listen Listen, err error) {
	if e.Params.None() {
		return Listen{}, nil
	}
	scanner, err := jsonscan.New(e.Params.Of(message))
	if err != nil {
		return Listen{}, err
	}
	r := listenReader{scanner}
	err = r.Members(listenKeys, func(int) error { return r.notifications(&listen) })
	if err != nil {
		return Listen{}, err
	}
	return listen, nil
}

// listenReader is one run over the params.
type listenReader struct{ jsonscan.Scanner }

func (r *listenReader) notifications(listen *Listen) error {
	return r.MembersIfAny(notificationKeys, func(key int) (err error) {
		switch key {
		case 0:
			listen.ToolsListChanged, err = r.flag()
		case 1:
			listen.PromptsListChanged, err = r.flag()
		case 2:
			listen.ResourcesListChanged, err = r.flag()
		case 3:
			err = r.strings(func(text string) {
				if server, uri, ok := names.SplitURI(text); ok {
					listen.Resources = append(listen.Resources, Resource{Server: server, URI: uri})
				}
			})
		default:
			err = r.strings(func(text string) {
				if server, id, ok := names.SplitTask(text); ok {
					listen.Tasks = append(listen.Tasks, Task{Server: server, ID: id})
				}
			})
		}
		return err
	})
}

// flag reads a value and reports whether it is true.
func (r *listenReader) flag() (bool, error) {
	set := r.Peek() == 't'
	return set, r.Skip()
}

// strings reads an array, and calls take with each string in it.
func (r *listenReader) strings(take func(string)) error {
	if r.Peek() != '[' {
		return r.Skip()
	}
	return r.Each(func() error {
		if r.Peek() != '"' {
			return r.Skip()
		}
		text, err := r.String()
		if err != nil {
			return err
		}
		value, err := text.Bytes()
		if err != nil {
			return nil //nolint:nilerr // no server has such a name
		}
		take(string(value))
		return nil
	})
}
