package bridge

import (
	"errors"
	"fmt"
	"time"
)

// Why the bridge refuses or ends a request.
var (
	// ErrNoSession: there is no such session, or it is not this client's.
	ErrNoSession = errors.New("no such session")

	// ErrGone: the channel to the server has ended.
	ErrGone = errors.New("the server has gone away")

	// ErrStart: the channel to the server cannot be started.
	ErrStart = errors.New("the server cannot be started")

	// ErrFull: no more servers may run, for this client or at all.
	ErrFull = errors.New("too many servers are running")

	// ErrRefused: the server has refused the handshake of its channel.
	ErrRefused = errors.New("the server has refused the handshake")

	// ErrBusy: the channel has the maximum of requests in flight.
	ErrBusy = errors.New("the server has too many requests in flight")

	// ErrDuplicate: the session has a request with that id in flight.
	ErrDuplicate = errors.New("a request of this id is in flight already")

	// ErrNeedsSession: the server knows the session era only.
	ErrNeedsSession = errors.New("the server needs a session")

	// ErrSlow: the client did not read the server's messages in time.
	ErrSlow = errors.New("the client does not read fast enough")

	// ErrClosed: the bridge was closed.
	ErrClosed = errors.New("the gateway has closed the connection to the server")

	// ErrCredentials: the credentials have ended that the server was reached with. The
	// request may have been carried out, unless the error is ErrUnsent too.
	ErrCredentials = errors.New("the server was reached with credentials that have ended")

	// ErrUnsent: nothing of the request was sent.
	ErrUnsent = errors.New("the request was not sent")

	errSharedCredentials = fmt.Errorf("%w: clients that share a server cannot have credentials of their own", ErrStart)
)

// startError is an [ErrStart] with its cause.
type startError struct{ err error }

func (e *startError) Error() string   { return ErrStart.Error() + ": " + e.err.Error() }
func (e *startError) Unwrap() []error { return []error{ErrStart, e.err} }

// goneError is an [ErrGone] with its cause.
type goneError struct{ err error }

func (e *goneError) Error() string {
	if e.err == nil {
		return ErrGone.Error()
	}
	return ErrGone.Error() + ": " + e.err.Error()
}

func (e *goneError) Unwrap() []error {
	if e.err == nil {
		return []error{ErrGone}
	}
	return []error{ErrGone, e.err}
}

// credentialsError is an [ErrCredentials] with its cause.
type credentialsError struct {
	cause  error
	unsent bool
}

func (e *credentialsError) Error() string { return e.cause.Error() }

func (e *credentialsError) Unwrap() []error {
	if e.unsent {
		return []error{ErrCredentials, ErrUnsent, e.cause}
	}
	return []error{ErrCredentials, e.cause}
}

// unsent adds to the end of credentials that it came before the request was sent.
func unsent(err error) error {
	if ended := new(credentialsError); errors.As(err, &ended) {
		return &credentialsError{cause: ended.cause, unsent: true}
	}
	return err
}

// BackoffError means that the server has ended, or was to be started, too often in a short
// time. The bridge does not start it again before Wait is over.
type BackoffError struct{ Wait time.Duration }

func (e *BackoffError) Error() string {
	return "the server was started too often, and is started again in " + e.Wait.Round(time.Millisecond).String()
}
