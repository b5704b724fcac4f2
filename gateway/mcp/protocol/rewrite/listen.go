package rewrite

import (
	"errors"

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
	err = readNotifications(e, message, func(r *listenReader, key int) (err error) {
		switch key {
		case 0:
			listen.ToolsListChanged, err = r.flag()
		case 1:
			listen.PromptsListChanged, err = r.flag()
		case 2:
			listen.ResourcesListChanged, err = r.flag()
		case 3:
			err = r.strings(func(text string, _ bool) {
				if server, uri, ok := names.SplitURI(text); ok {
					listen.Resources = append(listen.Resources, Resource{Server: server, URI: uri})
				}
			})
		default:
			err = r.strings(func(text string, _ bool) {
				if server, id, ok := names.SplitTask(text); ok {
					listen.Tasks = append(listen.Tasks, Task{Server: server, ID: id})
				}
			})
		}
		return err
	})
	if err != nil {
		return Listen{}, err
	}
	return listen, nil
}

// errNoURI: something else than a URI stands among those of resources.
var errNoURI = errors.New("resourceSubscriptions has something else than URIs")

// Subscriptions returns the URIs of the resources whose changes the client of a
// subscriptions/listen wants, as they stand there. An error means that the params are not
// valid, or could be read in two ways.
func Subscriptions(e *envelope.Envelope, message []byte) (uris []string, err error) {
	certain := true
	err = readNotifications(e, message, func(r *listenReader, key int) error {
		if notificationKeys[key] != "resourceSubscriptions" {
			return r.Skip()
		}
		return r.strings(func(uri string, ok bool) {
			certain = certain && ok
			uris = append(uris, uri)
		})
	})
	if err == nil && !certain {
		err = errNoURI
	}
	return uris, err
}

// listenReader is one run over the params.
type listenReader struct{ jsonscan.Scanner }

// readNotifications calls member to read each member of the notifications; key is its index among
// notificationKeys.
func readNotifications(e *envelope.Envelope, message []byte, member func(r *listenReader, key int) error) error {
	if e.Params.None() {
		return nil
	}
	scanner, err := jsonscan.New(e.Params.Of(message))
	if err != nil {
		return err
	}
	r := listenReader{scanner}
	return r.Members(listenKeys, func(int) error {
		return r.MembersIfAny(notificationKeys, func(key int) error { return member(&r, key) })
	})
}

// flag reads a value and reports whether it is true.
func (r *listenReader) flag() (bool, error) {
	set := r.Peek() == 't'
	return set, r.Skip()
}

// strings reads an array, and calls take with each string in it. ok is false for an element
// that is none, or could be read in two ways, and for a value that is no array.
func (r *listenReader) strings(take func(text string, ok bool)) error {
	element := func() error {
		raw, err := r.Raw()
		if err == nil {
			take(jsonscan.Text(raw))
		}
		return err
	}
	if r.Peek() == '[' {
		return r.Each(element)
	}
	raw, err := r.Raw()
	if err == nil && string(raw) != "null" {
		take("", false)
	}
	return err
}
