package reliability

import (
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/test/harness"
)

// feedBackoff is how long a gateway may wait before it asks for changes again.
const feedBackoff = 2 * time.Second

// TestAnotherNodeLeads changes the leader of a cluster in every way, while clients call
// tools and tokens are revoked. No known token fails, and a revocation that Vault has
// answered takes effect in time, whichever node leads.
func TestAnotherNodeLeads(t *testing.T) {
	s := newStage(t, harness.WithCluster(3))
	t.Run("it steps down", func(t *testing.T) {
		leader := s.Vault.Leader()
		s.in(t).changeLeader(t, leader, s.Vault.Standby(), func() {
			if err := leader.Client().Sys().StepDownWithContext(t.Context()); err != nil {
				t.Error(err)
			}
		}, func() {})
	})
	t.Run("it is killed", func(t *testing.T) {
		leader := s.Vault.Leader()
		s.in(t).changeLeader(t, leader, s.Vault.Standby(), leader.Kill, leader.Start)
	})
	// The gateway asks the leader itself, until the load balancer before the
	// cluster finds that it does not answer.
	t.Run("it hangs", func(t *testing.T) {
		leader := s.Vault.Leader()
		s.in(t).changeLeader(t, leader, leader,
			func() { leader.Signal(syscall.SIGSTOP) }, func() { leader.Signal(syscall.SIGCONT) })
	})
}

// changeLeader makes a gateway ask one node for everything, and deposes the leader;
// undo brings the node back.
func (s *stage) changeLeader(t *testing.T, leader, asked *harness.Node, do, undo func()) {
	t.Helper()
	var others []*harness.Node
	for _, node := range s.Vault.Nodes {
		if node != leader {
			others = append(others, node)
		}
	}
	way := newLine(t, asked.Address())
	g := s.StartGateway(harness.GatewayOptions{Vault: way.url})
	c := newCaller(t, g)
	known := s.client("leader-known")
	s.becomes(t, c, known, http.StatusOK, impatience)
	doomed := s.doom(t, c, 12)
	s.feedUp(g)
	p := c.probe(t, "a known token while another node comes to lead", known)

	revoker := startRevoker(t, others[0].Client(), doomed)
	began := time.Now()
	do()
	var gaps []gap
	if asked == leader {
		<-time.After(2 * time.Second) // of failed health checks
		way.lead(others[0].Address())
		gaps = append(gaps, gap{began, time.Now()})
	}
	revoker.wait()
	gaps = append(gaps, revoker.gaps...)
	t.Logf("Vault did not answer a revocation for %s", revoker.longest.Round(10*time.Millisecond))
	undo()
	s.Vault.AwaitLeader()
	s.feedUp(g)
	s.revocationWorks(t, g)
	p.stop()
	p.neverFailed(t)

	var latest time.Duration
	for _, d := range doomed {
		d.probe.stop()
		latest = max(latest, d.passed(t, gaps))
		s.Delete("mcp/clients/" + d.client)
	}
	t.Logf("%d tokens were revoked in the %s around it; the last request that one passed with was sent %s after its revocation",
		len(doomed), since(time.Now(), began), latest.Round(time.Millisecond))
	s.Delete("mcp/clients/leader-known")
}

// doomed is a token that is used until long after it was revoked.
type doomed struct {
	client         string
	probe          *probe
	asked, revoked time.Time // when the revocation was asked for, and answered
}

// gap is a time in which Vault may not have answered the gateway.
type gap struct{ from, to time.Time }

// passed returns how long after its revocation the last request was sent that the
// token passed with. It fails the test where that is later than promised: counted
// from the revocation's answer, or from when Vault was back and the gateway asked for
// changes again, where Vault failed before that. Gaps are in the order of their beginnings.
func (d *doomed) passed(t *testing.T, gaps []gap) time.Duration {
	t.Helper()
	limit := d.revoked.Add(promised)
	for _, g := range gaps {
		if again := g.to.Add(feedBackoff + promised); !g.from.After(limit) && limit.Before(again) {
			limit = again
		}
	}
	var last time.Duration
	for _, a := range d.probe.all() {
		switch {
		case a.status == http.StatusOK:
			last = max(last, a.sent.Sub(d.revoked))
			if a.sent.After(limit) {
				t.Errorf("a token passed %s after it was revoked, and %s later than it may", since(a.sent, d.revoked), since(a.sent, limit))
				return last
			}
		case a.sent.Add(a.took).After(d.asked) && (a.status == http.StatusUnauthorized || a.status == http.StatusServiceUnavailable || a.status == 0):
			// Refused, or cut where it was in flight.
		default:
			t.Errorf("a token was answered %d, sent %s after its revocation was asked for, in %s: %v", a.status, since(a.sent, d.asked), a.took, a.err)
			return last
		}
	}
	return last
}

func (s *stage) doom(t *testing.T, c *caller, count int) []*doomed {
	t.Helper()
	all := make([]*doomed, count)
	for i := range all {
		d := &doomed{client: fmt.Sprint("doomed-", i)}
		token := s.client(d.client)
		s.becomes(t, c, token, http.StatusOK, impatience)
		d.probe = c.probe(t, d.client, token)
		all[i] = d
	}
	return all
}

// revoker revokes one client after the other, each until Vault says that it is
// done.
type revoker struct {
	done    sync.WaitGroup
	longest time.Duration // that one took
	gaps    []gap         // before those that took long: a leader may be lost more than once
}

// noticeable is how long a revocation takes only where Vault does not answer, or the
// machine is as good as stopped.
const noticeable = 500 * time.Millisecond

func startRevoker(t *testing.T, vault *api.Client, all []*doomed) *revoker {
	t.Helper()
	vault.SetClientTimeout(time.Second)
	r := &revoker{}
	r.done.Go(func() {
		before := time.Now()
		for _, d := range all {
			d.asked = time.Now()
			for {
				if _, err := vault.Logical().WriteWithContext(t.Context(), harness.Mount+"/revoke-client/"+d.client, nil); err == nil {
					break
				}
				if t.Context().Err() != nil || time.Since(d.asked) > time.Minute {
					t.Error("Vault does not answer a revocation")
					return
				}
				<-time.After(pace)
			}
			d.revoked = time.Now()
			took := d.revoked.Sub(d.asked)
			r.longest = max(r.longest, took)
			if took > noticeable {
				r.gaps = append(r.gaps, gap{before, d.revoked})
			}
			before = d.revoked
			<-time.After(2 * pace)
		}
	})
	return r
}

func (r *revoker) wait() { r.done.Wait() }
