package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/test/bench/rig/job"
)

const (
	// askInterval is the least time between two requests of an Ask. askShare is the
	// same as a share of the time since its start. They set the precision of the
	// result. Without askShare, many long Asks would themselves overload the machine.
	askInterval = 5 * time.Millisecond
	askShare    = 20
)

// streams are the open streams.
type streams struct {
	mu    sync.Mutex
	conns map[net.Conn]bool
	out   *json.Encoder
}

// serveStreams carries out commands until there are no more.
func serveStreams(in io.Reader, out io.Writer) error {
	s := &streams{conns: map[net.Conn]bool{}, out: json.NewEncoder(out)}
	decoder := json.NewDecoder(in)
	for {
		var c job.Stream
		if err := decoder.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		switch c.Do {
		case job.Open:
			go s.open(&c)
		case job.Ask:
			go s.ask(&c)
		case job.CloseAll:
			s.closeAll()
			s.tell(job.Event{ID: c.ID, What: job.Closed, At: time.Now()})
		default:
			return fmt.Errorf("nobody knows how to %q", c.Do)
		}
	}
}

func (s *streams) tell(e job.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.out.Encode(e) // on an error, the reader is gone
}

func (s *streams) fail(c *job.Stream, err error) {
	s.tell(job.Event{ID: c.ID, What: job.Failed, At: time.Now(), Why: err.Error()})
}

func (s *streams) open(c *job.Stream) {
	conn, reader, status, err := request(c)
	for end := time.Now().Add(coldPatience); status == http.StatusServiceUnavailable && time.Now().Before(end); {
		_ = conn.Close()
		<-time.After(coldPause)
		conn, reader, status, err = request(c)
	}
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("no stream: status %d", status)
	}
	if conn != nil {
		defer conn.Close()
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	s.mu.Lock()
	s.conns[conn] = true
	s.mu.Unlock()
	s.tell(job.Event{ID: c.ID, What: job.Opened, At: time.Now()})
	_, _ = io.Copy(io.Discard, reader) // until it ends in any way
	at := time.Now()
	s.mu.Lock()
	open := s.conns[conn]
	delete(s.conns, conn)
	s.mu.Unlock()
	if open {
		s.tell(job.Event{ID: c.ID, What: job.Closed, At: at})
	}
}

// request sends the request for a stream, and reads the head of the answer.
func request(c *job.Stream) (conn net.Conn, reader *bufio.Reader, status int, err error) {
	if conn, err = net.Dial("tcp", c.Address); err != nil {
		return nil, nil, 0, err
	}
	reader = bufio.NewReaderSize(conn, 512)
	var head message
	if _, err = conn.Write(c.Request); err == nil {
		head, err = readHead(reader)
	}
	return conn, reader, head.status, err
}

func (s *streams) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
	clear(s.conns)
}

// ask repeats a request until the answer is 401.
func (s *streams) ask(c *job.Stream) {
	began := time.Now()
	wait := func() { <-time.After(max(askInterval, time.Since(began)/askShare)) }
	conn, err := net.Dial("tcp", c.Address)
	var body []byte
	for ; err == nil; wait() {
		reader := bufio.NewReaderSize(conn, 1<<10)
		for err == nil {
			var m message
			if m, body, err = exchange(conn, reader, c.Request, body); err == nil && m.status == http.StatusUnauthorized {
				_ = conn.Close()
				s.tell(job.Event{ID: c.ID, What: job.Refused, At: time.Now()})
				return
			}
			wait()
		}
		// The gateway cut it in the middle of a request, which is not a refusal.
		_ = conn.Close()
		conn, err = net.Dial("tcp", c.Address)
	}
	s.fail(c, err)
}

// exchange sends a request and reads the answer to its end.
func exchange(conn net.Conn, reader *bufio.Reader, request, buffer []byte) (m message, body []byte, err error) {
	if _, err = conn.Write(request); err != nil {
		return m, buffer, err
	}
	if m, err = readHead(reader); err != nil {
		return m, buffer, err
	}
	body, err = m.readBody(reader, buffer)
	return m, body, err
}
