// Package job has the messages between the benchmarks and bench-rig: one JSON object a
// line, over the rig's standard input and output.
package job

import "time"

// Load describes the requests to send, in their form on the wire: each connection sends
// all of them in turn, or its own one only.
type Load struct {
	Address     string        `json:"address"`
	TLS         string        `json:"tls"` // the beginning of the files' names; "": without TLS
	Requests    [][]byte      `json:"requests"`
	Connections int           `json:"connections"`
	Own         bool          `json:"own"`      // the first connection has the first request, and so on
	Duration    time.Duration `json:"duration"` // or
	Count       int           `json:"count"`    // the number of requests
	Status      int           `json:"status"`   // of each answer
	Contains    string        `json:"contains"` // a part of each answer's body
}

// Loaded is the result of a Load.
type Loaded struct {
	Error    string        `json:"error,omitempty"`
	Requests int           `json:"requests"`
	Elapsed  time.Duration `json:"elapsed"`
	P50      time.Duration `json:"p50"`
	P95      time.Duration `json:"p95"`
	P99      time.Duration `json:"p99"`
}

// Stream is one command to the rig's streams, by an id of the sender's choice.
type Stream struct {
	ID      int    `json:"id"`
	Do      string `json:"do"` // Open, Ask or CloseAll
	Address string `json:"address"`
	Request []byte `json:"request"` // in its form on the wire
}

// Commands of a Stream.
const (
	// Open sends the request, and keeps the answer's stream open. An Event reports
	// its header, and another one its end.
	Open = "open"
	// Ask repeats the request until it is refused. An Event reports that.
	Ask = "ask"
	// CloseAll closes all streams, without an Event for each.
	CloseAll = "close"
)

// Event is the rig's report about a Stream.
type Event struct {
	ID   int       `json:"id"`
	What string    `json:"what"` // Opened, Closed, Refused or Failed
	At   time.Time `json:"at"`
	Why  string    `json:"why,omitempty"` // of a failure
}

// Kinds of an Event.
const (
	Opened  = "opened"
	Closed  = "closed"
	Refused = "refused" // with 401
	Failed  = "failed"
)
