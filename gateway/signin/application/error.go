package application

import "net/http"

// Kind says why an application is not served.
type Kind int

// The kinds.
const (
	// Unknown: there is no such application. It may have to register again.
	Unknown Kind = iota + 1
	// Refused: the present file does not allow it.
	Refused
	// Unavailable: the answer is not known at present.
	Unavailable
	// NotAuthentic: it did not show that it is this application.
	NotAuthentic
	// Malformed: the request does not say in one way who asks.
	Malformed
)

// Error says why an application is not served. Its texts are for people and hold no secret.
type Error struct {
	Kind Kind
	// Message names the mistake, in a sentence.
	Message string
	// Advice is the remedy, a sentence; it may be empty.
	Advice string
	// Basic: the request authenticated by the Authorization header, so that a 401 needs a
	// challenge of the same scheme (RFC 6749 §5.2).
	Basic bool

	cause error
}

// Error is the message with its cause, for the gateway's logs. The cause names
// addresses, which are not for strangers.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.Message
	}
	return e.Message + " (" + e.cause.Error() + ")"
}

// Words are the message and the advice, for the person who must act.
func (e *Error) Words() string {
	if e.Advice == "" {
		return e.Message
	}
	return e.Message + " " + e.Advice
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// OAuth is the status and the error code of the answer at the token endpoint (RFC 6749 §5.2).
// Applications register again after invalid_client, so only those that certainly do not exist
// get it.
func (e *Error) OAuth() (status int, code string) {
	switch e.Kind {
	case Unavailable:
		return http.StatusServiceUnavailable, "temporarily_unavailable"
	case Malformed:
		return http.StatusBadRequest, "invalid_request"
	case Unknown, Refused, NotAuthentic:
	}
	return http.StatusUnauthorized, "invalid_client"
}

// RegistrationError says why a registration is refused (RFC 7591 §3.2.2).
type RegistrationError struct {
	Status      int
	Code        string // invalid_redirect_uri, invalid_client_metadata; others of RFC 6749
	Description string
}

// Error is the description.
func (e *RegistrationError) Error() string { return e.Code + ": " + e.Description }
