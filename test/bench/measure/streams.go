package measure

import (
	"encoding/json"
	"io"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/rig/job"
)

// Streams is a process that keeps streams open, and repeats requests until they are
// refused. Any goroutine may call its methods.
type Streams struct {
	Pid int

	t testing.TB

	mu      sync.Mutex
	in      *json.Encoder
	next    int
	waiting map[int]*Stream
}

// Stream is one of them. Each channel gets one value at most.
type Stream struct {
	Opened chan struct{}
	// Ended gets the time of the stream's end, or of the refusal.
	Ended chan time.Time
	// Failed gets the error otherwise.
	Failed chan string
}

// Streams starts the process.
func (r *Rig) Streams() *Streams {
	r.t.Helper()
	pid, in, out := r.pipe("streams")
	s := &Streams{Pid: pid, t: r.t, in: json.NewEncoder(in), waiting: map[int]*Stream{}}
	go s.listen(out)
	return s
}

func (s *Streams) listen(out io.Reader) {
	decoder := json.NewDecoder(out)
	for {
		var e job.Event
		if decoder.Decode(&e) != nil {
			return // the process has ended
		}
		s.mu.Lock()
		waiting := s.waiting[e.ID]
		if e.What != job.Opened {
			delete(s.waiting, e.ID)
		}
		s.mu.Unlock()
		switch {
		case waiting == nil:
		case e.What == job.Opened:
			close(waiting.Opened)
		case e.What == job.Failed:
			waiting.Failed <- e.Why
		default:
			waiting.Ended <- e.At
		}
	}
}

func (s *Streams) do(what, address string, request []byte) *Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	stream := &Stream{Opened: make(chan struct{}), Ended: make(chan time.Time, 1), Failed: make(chan string, 1)}
	s.waiting[s.next] = stream
	if err := s.in.Encode(job.Stream{ID: s.next, Do: what, Address: address, Request: request}); err != nil {
		stream.Failed <- err.Error()
	}
	return stream
}

// Open opens a stream.
func (s *Streams) Open(address string, request []byte) *Stream {
	return s.do(job.Open, address, request)
}

// Ask repeats a request until it is refused.
func (s *Streams) Ask(address string, request []byte) *Stream {
	return s.do(job.Ask, address, request)
}

// CloseAll closes all streams. They do not report their ends.
func (s *Streams) CloseAll() {
	s.t.Helper()
	select {
	case <-s.do(job.CloseAll, "", nil).Ended:
	case <-time.After(time.Minute):
		s.t.Fatal("the streams could not be closed")
	}
}

// AwaitOpen waits until all of them are open.
func AwaitOpen(t testing.TB, streams []*Stream) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for _, stream := range streams {
		select {
		case <-stream.Opened:
		case why := <-stream.Failed:
			t.Fatalf("a stream could not be opened: %s", why)
		case <-deadline:
			t.Fatal("not all streams were open after two minutes")
		}
	}
}
