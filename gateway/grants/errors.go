package grants

import "errors"

// Why a token's holder gets no answer, or loses the one in flight. The first
// three are also the causes with which the context of a live request ends.
var (
	// ErrInactive: Vault says that the token is unknown, expired or revoked,
	// which are not told apart. Answered with 401.
	ErrInactive = errors.New("the token is not active")

	// ErrNotAllowed: the client may not, or no longer, reach the server.
	// Answered with 403.
	ErrNotAllowed = errors.New("the client may not reach the server")

	// ErrUnavailable: Vault cannot be asked, and what it said last is too old
	// to go on with. Answered with 503 and Retry-After.
	ErrUnavailable = errors.New("vault cannot be asked")

	// ErrServerGone: the server was deleted from the registry, or re-pointed,
	// while a request to it was in flight.
	ErrServerGone = errors.New("the server's registration has ended")
)
