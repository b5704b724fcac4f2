package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/test/bench/rig/job"
)

// runJobs runs one job after the other, and answers each with a line.
func runJobs[Job, Result any](in io.Reader, out io.Writer, run func(*Job) Result) error {
	decoder, encoder := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var next Job
		if err := decoder.Decode(&next); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := encoder.Encode(run(&next)); err != nil {
			return err
		}
	}
}

func runLoad(j *job.Load) job.Loaded {
	workers := make([]*worker, 0, j.Connections)
	defer func() {
		for _, w := range workers {
			_ = w.conn.Close()
		}
	}()
	for i := range j.Connections {
		w, err := newWorker(j, i)
		if err != nil {
			return job.Loaded{Error: err.Error()}
		}
		workers = append(workers, w)
	}
	var all sync.WaitGroup
	var sent atomic.Int64
	started := time.Now()
	for _, w := range workers {
		all.Go(func() { w.err = w.run(&sent, started.Add(j.Duration)) })
	}
	all.Wait()
	result := job.Loaded{Elapsed: time.Since(started)}
	var times []time.Duration
	for _, w := range workers {
		if w.err != nil {
			result.Error = w.err.Error()
			return result
		}
		times = append(times, w.times...)
	}
	slices.Sort(times)
	if result.Requests = len(times); result.Requests == 0 {
		result.Error = "no request was answered"
		return result
	}
	at := func(share float64) time.Duration { return times[int(share*float64(len(times)-1))] }
	result.P50, result.P95, result.P99 = at(0.50), at(0.95), at(0.99)
	return result
}

// worker sends requests over one connection, each after the answer to the last.
type worker struct {
	job    *job.Load
	next   int
	conn   net.Conn
	reader *bufio.Reader
	body   []byte
	status int // of the last answer
	times  []time.Duration
	err    error
}

// newWorker opens a connection.
func newWorker(j *job.Load, number int) (*worker, error) {
	conn, err := dial(j)
	if err != nil {
		return nil, err
	}
	w := &worker{
		job: j, conn: conn, reader: bufio.NewReaderSize(conn, 16<<10),
		next:  number * len(j.Requests) / j.Connections,
		times: make([]time.Duration, 0, 1<<14),
	}
	if j.Own {
		w.next = number
	}
	if j.Count == 0 { // otherwise each request counts, even the first
		if err := w.first(); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return w, nil
}

func dial(j *job.Load) (net.Conn, error) {
	if j.TLS == "" {
		return net.Dial("tcp", j.Address)
	}
	secure, err := tlsOf([]string{j.TLS})
	if err != nil {
		return nil, err
	}
	return tls.Dial("tcp", j.Address, secure)
}

// A gateway answers 503 if Vault's first answer about a token is slow, and clients then
// repeat the request: for coldPatience, after coldPause each time.
const (
	coldPatience = 10 * time.Second
	coldPause    = 100 * time.Millisecond
)

// first sends a request that does not count.
func (w *worker) first() error {
	for end := time.Now().Add(coldPatience); ; <-time.After(coldPause) {
		err := w.exchange()
		if err == nil || w.status != http.StatusServiceUnavailable || time.Now().After(end) {
			return err
		}
		w.next--
	}
}

func (w *worker) run(sent *atomic.Int64, end time.Time) error {
	for {
		started := time.Now()
		if w.job.Count > 0 { // all workers together send each request once
			if w.next = int(sent.Add(1)) - 1; w.next >= w.job.Count {
				return nil
			}
		} else if started.After(end) && len(w.times) > 0 {
			// Send one at least: a short time may be over by now.
			return nil
		}
		if err := w.exchange(); err != nil {
			return err
		}
		w.times = append(w.times, time.Since(started))
	}
}

// exchange sends the next request and reads the answer to its end.
func (w *worker) exchange() error {
	request := w.job.Requests[w.next%len(w.job.Requests)]
	if !w.job.Own { // otherwise it repeats its own request
		w.next++
	}
	m, body, err := exchange(w.conn, w.reader, request, w.body)
	if err != nil {
		return err
	}
	w.body, w.status = body, m.status
	if m.status != w.job.Status || !bytes.Contains(w.body, []byte(w.job.Contains)) {
		return fmt.Errorf("answered with status %d: %.300s", m.status, w.body)
	}
	return nil
}
