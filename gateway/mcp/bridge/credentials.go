package bridge

// Credentials are what the server of a channel is started or reached with on behalf of one
// principal. They end while channels live, and others take their place. Equal values are the
// same credentials.
type Credentials interface {
	// Superseded is closed when Successor returns the credentials for everything new.
	Superseded() <-chan struct{}
	Successor() Credentials
	// Ended is closed when nobody may use them any more. Cause says why.
	Ended() <-chan struct{}
	Cause() error
	// Hold keeps them from being revoked until release, and no longer than a moment beyond
	// Ended. It fails if they have ended.
	Hold() (release func(), err error)
}

// newest follows the successors of credentials to the last; nil without any.
func newest(c Credentials) Credentials {
	for c != nil {
		select {
		case <-c.Superseded():
		default:
			return c
		}
		next := c.Successor()
		if next == nil {
			return c
		}
		c = next
	}
	return nil
}

// haveEnded reports whether nobody may use the credentials any more, nor others that have
// taken their place.
func haveEnded(c Credentials) bool {
	if c = newest(c); c == nil {
		return false
	}
	select {
	case <-c.Ended():
		return true
	default:
		return false
	}
}
