package pins

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/test/harness"
)

// hostile is an MCP server of both eras on every transport. It sends the definitions that a
// test wants, byte for byte, and may send others in its next answer.
type hostile struct {
	mu       sync.Mutex
	say      func(q *question) *says
	called   []string          // the names in calls
	clients  map[string]string // names of clients, by session
	streams  map[chan string]bool
	answers  map[string]string // of broken streams, by event id
	channels map[string]chan string
}

func newHostile(first *says) *hostile {
	s := &hostile{clients: map[string]string{}, streams: map[chan string]bool{}, answers: map[string]string{}, channels: map[string]chan string{}}
	s.says(first)
	return s
}

// says is all that a server says of its things. Each text is JSON.
type says struct {
	lists        map[pin.Kind][][]string // entries, in pages
	instructions string                  // "": there are none
	server       string
	pages        map[string]string // entries of contents, by URI
}

// with returns the same with other entries of a list, on one page.
func (a *says) with(kind pin.Kind, entries ...string) *says {
	other := *a
	other.lists = map[pin.Kind][][]string{}
	for k, pages := range a.lists {
		other.lists[k] = pages
	}
	other.lists[kind] = [][]string{entries}
	return &other
}

// says has the server say the same to everybody from now on.
func (s *hostile) says(all *says) { s.saysBy(func(*question) *says { return all }) }

// saysBy has the server choose its words for each request.
func (s *hostile) saysBy(say func(q *question) *says) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.say = say
}

// calls returns how many requests have named the thing.
func (s *hostile) calls(name string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, called := range s.called {
		if called == name {
			n++
		}
	}
	return n
}

// notify sends a notification on every stream that is open, and returns how many there are.
func (s *hostile) notify(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for stream := range s.streams {
		stream <- string(protocol.Notification(method, nil))
	}
	return len(s.streams)
}

// question is a message that the server has got.
type question struct {
	ID     json.RawMessage
	Method string
	Params struct {
		Cursor, Name, URI string
		Ref               struct{ Name, URI string }
		ClientInfo        struct{ Name string }
		Notifications     struct{ ResourceSubscriptions []string }
		Meta              map[string]json.RawMessage `json:"_meta"`
	}

	client    string // as it calls itself
	stateless bool
}

// read reads a message that came in the session.
func (s *hostile) read(message []byte, session string) (*question, error) {
	q := &question{}
	if err := json.Unmarshal(message, q); err != nil {
		return nil, err
	}
	q.stateless = strings.Contains(string(q.Params.Meta[protocol.MetaProtocolVersion]), harness.StatelessEra)
	q.client = q.Params.ClientInfo.Name
	if q.stateless {
		var info struct{ Name string }
		_ = json.Unmarshal(q.Params.Meta[protocol.MetaClientInfo], &info)
		q.client = info.Name
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.client == "" {
		q.client = s.clients[session]
	}
	for _, name := range append([]string{q.Params.Name, q.Params.URI, q.Params.Ref.Name, q.Params.Ref.URI}, q.Params.Notifications.ResourceSubscriptions...) {
		if name != "" {
			s.called = append(s.called, name)
		}
	}
	return q, nil
}

// open begins a session of a client.
func (s *hostile) open(client string) (session string) {
	session = rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[session] = client
	return session
}

// answer is the response to a request.
func (s *hostile) answer(q *question) string {
	s.mu.Lock()
	say := s.say
	s.mu.Unlock()
	result := say(q).result(q)
	if result == "" {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}`, q.ID)
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, q.ID, result)
}

// capabilities are those of a server that has everything.
const capabilities = `{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},` +
	`"completions":{},"extensions":{"io.modelcontextprotocol/ui":{}}}`

// result is that of a request; "" for a method that the server does not know.
func (a *says) result(q *question) string {
	switch q.Method {
	case protocol.MethodInitialize:
		return fmt.Sprintf(`{"protocolVersion":%q,"capabilities":%s,"serverInfo":%s%s}`, harness.SessionEra, capabilities, a.server, a.described())
	case protocol.MethodDiscover:
		return a.complete(q, fmt.Sprintf(`"supportedVersions":[%q],"capabilities":%s%s,"ttlMs":0,"cacheScope":"private"`, harness.StatelessEra, capabilities, a.described()))
	case protocol.MethodToolsList:
		return a.list(q, "tools", pin.Tool)
	case protocol.MethodPromptsList:
		return a.list(q, "prompts", pin.Prompt)
	case protocol.MethodResourcesList:
		return a.list(q, "resources", pin.Resource)
	case protocol.MethodTemplatesList:
		return a.list(q, "resourceTemplates", pin.Template)
	case protocol.MethodToolsCall:
		return a.complete(q, `"content":[{"type":"text","text":"the tool was called"}]`)
	case protocol.MethodPromptsGet:
		return a.complete(q, `"messages":[{"role":"user","content":{"type":"text","text":"the prompt was got"}}]`)
	case protocol.MethodResourcesRead:
		if entry, isPage := a.pages[q.Params.URI]; isPage {
			return a.complete(q, `"contents":[`+entry+`],"ttlMs":0,"cacheScope":"private"`)
		}
		return a.complete(q, fmt.Sprintf(`"contents":[{"uri":%q,"text":"the resource was read"}],"ttlMs":0,"cacheScope":"private"`, q.Params.URI))
	case protocol.MethodComplete:
		return a.complete(q, `"completion":{"values":["the completion"]}`)
	case protocol.MethodPing, protocol.MethodSubscribe, protocol.MethodUnsubscribe:
		return a.complete(q, "")
	}
	return ""
}

// described are the server's instructions, as a further member.
func (a *says) described() string {
	if a.instructions == "" {
		return ""
	}
	return `,"instructions":` + a.instructions
}

// list is one page of a list.
func (a *says) list(q *question, member string, kind pin.Kind) string {
	page, _ := strconv.Atoi(q.Params.Cursor)
	var entries []string
	next := ""
	if pages := a.lists[kind]; page < len(pages) {
		entries = pages[page]
		if page+1 < len(pages) {
			next = fmt.Sprintf(`,"nextCursor":"%d"`, page+1)
		}
	}
	hints := ""
	if q.stateless {
		hints = `,"ttlMs":0,"cacheScope":"public"`
	}
	return a.complete(q, fmt.Sprintf(`%q:[%s]%s%s`, member, strings.Join(entries, ","), next, hints))
}

// complete is a whole result. In the stateless era each names the server.
func (a *says) complete(q *question, members string) string {
	if !q.stateless {
		return "{" + members + "}"
	}
	if members != "" {
		members += ","
	}
	return fmt.Sprintf(`{%s"resultType":"complete","_meta":{%q:%s}}`, members, protocol.MetaServerInfo, a.server)
}
