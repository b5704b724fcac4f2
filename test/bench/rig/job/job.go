// Package job is what the benchmarks and bench-rig say to each other: one JSON
// object a line, over the rig's standard input and output.
package job

import "time"

// Load says what to send. Requests go over the wire as they stand: on each connection
// all of them in turn, or its own one alone.
type Load struct {
	Address     string        `json:"address"`
	TLS         string        `json:"tls"` // the beginning of the files' names; without it in the clear
	Requests    [][]byte      `json:"requests"`
	Connections int           `json:"connections"`
	Own         bool          `json:"own"`      // the first connection has the first request, and so on
	Duration    time.Duration `json:"duration"` // or
	Count       int           `json:"count"`    // so many requests
	Status      int           `json:"status"`   // that each answer has
	Contains    string        `json:"contains"` // what each answer's body has
}

// Loaded is what came of it.
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
	Request []byte `json:"request"` // as it goes over the wire
}

// What Stream can do.
const (
	// Open sends the request, and holds what comes open. An Event tells that its
	// header has come, and another one that it has ended.
	Open = "open"
	// Ask sends the request again and again, until it is refused. An Event tells
	// of that.
	Ask = "ask"
	// CloseAll closes all streams, without an Event for each.
	CloseAll = "close"
)

// Event is what the rig says of a Stream.
type Event struct {
	ID   int       `json:"id"`
	What string    `json:"what"` // Opened, Closed, Refused or Failed
	At   time.Time `json:"at"`
	Why  string    `json:"why,omitempty"` // of what has failed
}

// What an Event says.
const (
	Opened  = "opened"
	Closed  = "closed"
	Refused = "refused" // with 401
	Failed  = "failed"
)
