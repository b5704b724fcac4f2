package conformance

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// names lets the runners, which know the fixture's tools, prompts and resources by
// their own names, run against a gateway that serves the fixture as one of many
// servers: it puts the server's prefix before the names in requests, and takes it
// away in answers. It knows nothing of the gateway's code, and only these prefixes.
type names struct {
	name, uri string // the prefixes
	taken     *strings.Replacer
}

func namesOf(server string) *names {
	n := &names{name: server + "__", uri: "mcp://" + server + "/"}
	n.taken = strings.NewReplacer(
		// A request of the server has the prefix in its id, for the answer to find
		// the way back, and so it must stay.
		`"id":"`+n.name, `"id":"`+n.name,
		`"`+n.name, `"`,
		n.uri, "",
	)
	return n
}

// request puts the prefix before the name in a request.
func (n *names) request(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	var message, params map[string]json.RawMessage
	var method string
	if json.Unmarshal(body, &message) == nil && json.Unmarshal(message["method"], &method) == nil &&
		json.Unmarshal(message["params"], &params) == nil {
		switch method {
		case "tools/call", "prompts/get":
			n.put(params, "name", n.name)
			n.header(r.Header, n.name)
		case "tasks/get", "tasks/update", "tasks/cancel":
			n.put(params, "taskId", n.name)
			n.header(r.Header, n.name)
		case "resources/read", "resources/subscribe", "resources/unsubscribe":
			n.put(params, "uri", n.uri)
			n.header(r.Header, n.uri)
		case "completion/complete":
			n.within(params, "ref", func(ref map[string]json.RawMessage) {
				n.put(ref, "name", n.name)
				n.put(ref, "uri", n.uri)
			})
		case "subscriptions/listen":
			n.within(params, "notifications", func(wanted map[string]json.RawMessage) {
				var uris []string
				if json.Unmarshal(wanted["resourceSubscriptions"], &uris) != nil {
					return
				}
				for i := range uris {
					uris[i] = n.uri + uris[i]
				}
				wanted["resourceSubscriptions"] = encoded(uris)
			})
		}
		message["params"] = encoded(params)
		body = encoded(message)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength, r.TransferEncoding = int64(len(body)), nil
	return nil
}

// put puts the prefix before a member that is a string.
func (n *names) put(object map[string]json.RawMessage, member, prefix string) {
	var value string
	if raw, ok := object[member]; ok && json.Unmarshal(raw, &value) == nil {
		object[member] = encoded(prefix + value)
	}
}

// within changes a member that is an object.
func (n *names) within(object map[string]json.RawMessage, member string, change func(map[string]json.RawMessage)) {
	var inner map[string]json.RawMessage
	if raw, ok := object[member]; ok && json.Unmarshal(raw, &inner) == nil && inner != nil {
		change(inner)
		object[member] = encoded(inner)
	}
}

// header puts the prefix before the name in Mcp-Name, which may be in base64.
func (n *names) header(header http.Header, prefix string) {
	const open, end = "=?base64?", "?="
	value := header.Get("Mcp-Name")
	if value == "" {
		return
	}
	if inner, ok := strings.CutPrefix(value, open); ok && strings.HasSuffix(inner, end) {
		plain, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(inner, end))
		if err != nil {
			return // it is wrong on purpose
		}
		header.Set("Mcp-Name", open+base64.StdEncoding.EncodeToString(append([]byte(prefix), plain...))+end)
		return
	}
	header.Set("Mcp-Name", prefix+value)
}

// answers passes a connection's answers on, without the prefix.
func (n *names) answers(client io.Writer, gateway net.Conn) {
	answers := bufio.NewReader(gateway)
	for {
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			return
		}
		if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
			response.Body = io.NopCloser(&lines{bufio.NewReader(response.Body), n, nil})
			response.ContentLength, response.TransferEncoding = -1, []string{"chunked"}
		} else {
			body, err := io.ReadAll(response.Body)
			if err != nil {
				return
			}
			text := n.taken.Replace(string(body))
			response.Body = io.NopCloser(strings.NewReader(text))
			response.ContentLength, response.TransferEncoding = int64(len(text)), nil
			response.Header.Set("Content-Length", strconv.Itoa(len(text)))
		}
		if response.Write(client) != nil {
			return
		}
	}
}

// lines reads a stream without the prefix, a line as soon as it is there.
type lines struct {
	from *bufio.Reader
	*names
	rest []byte
}

func (l *lines) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		line, err := l.from.ReadString('\n')
		if line == "" {
			return 0, err
		}
		l.rest = []byte(l.taken.Replace(line))
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// encoded is a value as JSON. What is encoded here was JSON before.
func encoded(value any) json.RawMessage {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return text
}
