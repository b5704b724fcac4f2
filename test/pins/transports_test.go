package pins

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// serverVariable, set in a child's environment, makes it the hostile server's channel on stdio:
// its value is where the server is.
const serverVariable = "TEST_PINS_SERVER"

func TestMain(m *testing.M) {
	if server := os.Getenv(serverVariable); server != "" {
		if err := relay(server, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// relay posts each line to the server, and writes the answer. Notifications of the server
// come as they do on HTTP.
func relay(server string, in io.Reader, out io.Writer) error {
	var mu sync.Mutex
	write := func(message []byte) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintf(out, "%s\n", message)
	}
	go func() {
		response, err := http.Get(server)
		if err != nil {
			return
		}
		defer response.Body.Close()
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			if message, isData := strings.CutPrefix(lines.Text(), "data: "); isData {
				write([]byte(message))
			}
		}
	}()
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return nil //nolint:nilerr // the gateway has ended its child
		}
		response, err := http.Post(server, protocol.MediaJSON, bytes.NewReader(line))
		if err != nil {
			return err
		}
		answer, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			return err
		}
		if len(answer) > 0 {
			write(bytes.TrimSpace(answer))
		}
	}
}

// Ways in which the server is reached, as paths of its URL.
const (
	inJSON    = "json"        // streamable HTTP, answers in JSON
	inEvents  = "events"      // streamable HTTP, answers in streams of events
	broken    = "resumed"     // streamable HTTP, in streams that break off before the answer
	brokenAll = "resumed-all" // likewise, from the answer to initialize on
	overSSE   = "sse"         // the older HTTP+SSE
	overPipe  = "stdio"       // a child, which posts its input
)

// ServeHTTP serves all ways but stdio's own.
func (s *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	way, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodGet && way == overSSE:
		s.serveChannel(w, r)
	case r.Method == http.MethodGet && r.Header.Get(protocol.HeaderLastEventID) != "":
		s.resume(w, r.Header.Get(protocol.HeaderLastEventID))
	case r.Method == http.MethodGet:
		s.serveStream(w, r, "")
	default:
		s.servePost(w, r, way)
	}
}

func (s *hostile) servePost(w http.ResponseWriter, r *http.Request, way string) {
	message, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	q, err := s.read(message, r.Header.Get(protocol.HeaderSession))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if q.ID == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if q.Method == protocol.MethodListen {
		meta := fmt.Sprintf(`{"_meta":{%q:%s},"notifications":{"toolsListChanged":true}}`, protocol.MetaSubscriptionID, q.ID)
		acknowledged := string(protocol.Notification(protocol.MethodAcknowledged, []byte(meta)))
		if way == overPipe { // whose notifications all come on one stream
			_, _ = io.WriteString(w, acknowledged)
			return
		}
		s.serveStream(w, r, acknowledged)
		return
	}
	if q.Method == protocol.MethodInitialize && way != overPipe {
		w.Header().Set(protocol.HeaderSession, s.open(q.client))
	}
	answer := s.answer(q)
	switch {
	case way == overSSE:
		s.mu.Lock()
		channel := s.channels[r.URL.Query().Get("session")]
		s.mu.Unlock()
		channel <- answer
		w.WriteHeader(http.StatusAccepted)
	case way == broken && !q.stateless && q.Method != protocol.MethodInitialize, way == brokenAll:
		id := s.open("") // any text that nobody else has
		s.mu.Lock()
		s.answers[id] = answer
		s.mu.Unlock()
		w.Header().Set("Content-Type", protocol.MediaEventStream)
		_, _ = fmt.Fprintf(w, "id: %s\nretry: 1\ndata:\n\n", id)
	case way == inEvents || way == broken:
		w.Header().Set("Content-Type", protocol.MediaEventStream)
		_, _ = fmt.Fprintf(w, "event: message\ndata: %s\n\n", answer)
	default:
		w.Header().Set("Content-Type", protocol.MediaJSON)
		_, _ = io.WriteString(w, answer)
	}
}

// resume sends the answer behind an event of a broken stream.
func (s *hostile) resume(w http.ResponseWriter, event string) {
	s.mu.Lock()
	answer := s.answers[event]
	s.mu.Unlock()
	if answer == "" {
		http.Error(w, "no such event", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", protocol.MediaEventStream)
	_, _ = fmt.Fprintf(w, "id: %s-\nevent: message\ndata: %s\n\n", event, answer)
}

// serveStream sends the first message, and notifications, until the client goes.
func (s *hostile) serveStream(w http.ResponseWriter, r *http.Request, first string) {
	stream := make(chan string, 64)
	if first != "" {
		stream <- first
	}
	s.mu.Lock()
	s.streams[stream] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.streams, stream)
		s.mu.Unlock()
	}()
	send(w, r, stream)
}

// serveChannel serves the stream of an HTTP+SSE client, and says where its messages go.
func (s *hostile) serveChannel(w http.ResponseWriter, r *http.Request) {
	channel := make(chan string, 64)
	session := s.open("")
	s.mu.Lock()
	s.channels[session] = channel
	s.mu.Unlock()
	w.Header().Set("Content-Type", protocol.MediaEventStream)
	_, _ = fmt.Fprintf(w, "event: endpoint\ndata: %s?session=%s\n\n", r.URL.Path, session)
	send(w, r, channel)
}

// send sends messages as events.
func send(w http.ResponseWriter, r *http.Request, messages <-chan string) {
	w.Header().Set("Content-Type", protocol.MediaEventStream)
	for flush := http.NewResponseController(w); ; {
		if flush.Flush() != nil {
			return
		}
		select {
		case message := <-messages:
			_, _ = fmt.Fprintf(w, "event: message\ndata: %s\n\n", message)
		case <-r.Context().Done():
			return
		}
	}
}
