package kms

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// Fault makes requests fail, or wait. Its fields select requests and shape the answer. The
// first fault that matches a request counts.
type Fault struct {
	Operation string // "Decrypt"; "" is every operation
	Key       string // ARN of the key that the request names; "" is every key
	Times     int    // the number of requests to fail; 0: all, until it is cleared

	Delay   time.Duration // before anything else
	Code    string        // AWS's name of the error to answer; "": none
	Message string        // default: AWS's text for that code
	HangUp  bool          // ends the connection instead of answering
}

// Throttle answers as KMS does above its request quota.
func Throttle(operation string) Fault {
	return Fault{Operation: operation, Code: "ThrottlingException", Message: "Rate exceeded"}
}

// Refuse answers that the identity's policies do not allow the operation.
func Refuse(operation string) Fault {
	return Fault{Operation: operation, Code: "AccessDeniedException"}
}

// Slow answers as usual, but late.
func Slow(operation string, delay time.Duration) Fault {
	return Fault{Operation: operation, Delay: delay}
}

// Outage answers 500, as KMS does after an internal error.
func Outage() Fault { return Fault{Code: "KMSInternalException", Message: "internal error"} }

// Unreachable ends each connection without an answer.
func Unreachable() Fault { return Fault{HangUp: true} }

// errHangUp is the failure without an answer.
var errHangUp = &Failure{Code: "hang up"}

// Fail adds a fault.
func (s *Server) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Recover clears all faults.
func (s *Server) Recover() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// fault applies the faults to the call, and returns the answer; nil for the usual
// answer.
func (s *Server) fault(ctx context.Context, c *call) *Failure {
	f := s.takeFault(c)
	if f == nil {
		return nil
	}
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	switch {
	case f.HangUp:
		return errHangUp
	case f.Code == "AccessDeniedException" && f.Message == "":
		return c.denied(c.in.KeyID)
	case f.Code != "":
		return failf(f.Code, "%s", f.Message)
	}
	return nil
}

func (s *Server) takeFault(c *call) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.Operation != "" && f.Operation != c.operation || f.Key != "" && f.Key != s.resolve(c.in.KeyID) {
			continue
		}
		taken := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return &taken
	}
	return nil
}

// hangUp ends the connection without an answer.
func hangUp(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}
