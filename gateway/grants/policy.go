package grants

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

const (
	// policiesKept is how many effective policies are kept. There are as many as
	// clients have different lists of policies.
	policiesKept = 1024

	// policyTimeout bounds one request for a policy.
	policyTimeout = time.Second
)

// NotAllowed is why a client may not reach a server. It is an ErrNotAllowed.
type NotAllowed struct{ policy.Decision }

// Error says why, for the audit log.
func (n *NotAllowed) Error() string { return n.Decision.Decision + ": " + n.Reason }

// Is makes it an ErrNotAllowed.
func (n *NotAllowed) Is(target error) bool { return target == ErrNotAllowed }

// ItemNotAllowed is why a request must not go on that uses an item of its server: the client's
// rules do not admit it any more. It is an ErrNotAllowed.
type ItemNotAllowed struct{ Item policy.Item }

// Error says why, for the audit log.
func (n *ItemNotAllowed) Error() string {
	return fmt.Sprintf("the client's rules do not admit the %s any more", n.Item)
}

// Is makes it an ErrNotAllowed.
func (n *ItemNotAllowed) Is(target error) bool { return target == ErrNotAllowed }

// Allows says whether the grant admits the server: by its allow-list, and by
// the policy that applies to the client. The error is a [NotAllowed].
func Allows(g *Grant, server *Server) error {
	if reaches(g, server) {
		return nil
	}
	return &NotAllowed{whyNotAdmitted(g, server)}
}

// reaches is Allows for those who need no reason. It is the one place where that is decided, for new
// requests and for live ones.
func reaches(g *Grant, server *Server) bool {
	switch {
	case !g.AllowsServer(server.Name):
		return false
	case g.policyDigest == "":
		return true
	}
	return g.policy != nil && g.policy.decide(server).Allowed // one that was never fetched admits nothing
}

func whyNotAdmitted(g *Grant, server *Server) policy.Decision {
	switch {
	case !g.AllowsServer(server.Name):
		return policy.Decide(g.Client, g.rights, nil, server.subject())
	case g.policy == nil:
		return (*policy.Policy)(nil).Evaluate(server.subject())
	}
	return *g.policy.decide(server)
}

// policies has the effective policies that grants name, by digest. The policy of a digest
// never changes, so nothing here is ever out of date.
type policies struct {
	engine  engine
	held    *lru.Cache[string, *effectivePolicy]
	fetches singleflight.Group
}

func newPolicies(e engine) (*policies, error) {
	held, err := lru.New[string, *effectivePolicy](policiesKept)
	if err != nil {
		return nil, err
	}
	return &policies{engine: e, held: held}, nil
}

// get returns the policy of a digest, nil for the empty one. It is fetched once,
// however many lookups name it. The error is errOutdated where the engine does
// not know the digest: its policies have changed since it answered the lookup.
func (p *policies) get(digest string) (*effectivePolicy, error) {
	if digest == "" {
		return nil, nil
	}
	if held, ok := p.held.Get(digest); ok {
		return held, nil
	}
	fetched, err, _ := p.fetches.Do(digest, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), policyTimeout)
		defer cancel()
		answer, err := p.engine.Policy(ctx, digest)
		if errors.Is(err, vaultclient.ErrUnknownPolicy) {
			return nil, errOutdated
		}
		if err != nil {
			return nil, err
		}
		made := policy.Compile(answer.Sources)
		if made.Digest() != digest {
			return nil, fmt.Errorf("the policy %s reads differently here than in the engine: the gateway and the engine are not of the same version", digest)
		}
		effective := &effectivePolicy{policy: made}
		p.held.Add(digest, effective)
		return effective, nil
	})
	if err != nil {
		return nil, err
	}
	return fetched.(*effectivePolicy), nil
}

// effectivePolicy is a compiled policy with the decisions that it has made.
type effectivePolicy struct {
	policy    *policy.Policy
	decisions sync.Map // server name -> *decided
}

// decided is a decision about one registration of a server.
type decided struct {
	server   *Server
	decision policy.Decision
}

// decide returns the decision about a server. It is made once for each
// registration; after that it is one read of a map.
func (p *effectivePolicy) decide(s *Server) *policy.Decision {
	if held, ok := p.decisions.Load(s.Name); ok && held.(*decided).server == s {
		return &held.(*decided).decision
	}
	made := &decided{server: s, decision: p.policy.Evaluate(s.subject())}
	p.decisions.Store(s.Name, made)
	return &made.decision
}

// subject is the server as a policy sees it: its registration, not the name that a
// client gives it.
func (s *Server) subject() *policy.Server {
	return &policy.Server{
		Name: s.Name, Stdio: s.Transport == TransportStdio, URL: s.URL, Command: s.Command, Args: s.Args,
	}
}
