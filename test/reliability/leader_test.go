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

// TestAnotherNodeLeads changes the leader of a cluster in every way there is,
// while clients call tools and tokens are revoked. No known token fails, and none
// passes whose revocation Vault has answered.
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

// changeLeader has a gateway ask one node for everything, and does what ends the
// leader's lead; undo brings it back.
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
	if asked == leader {
		<-time.After(2 * time.Second) // of failed health checks
		way.lead(others[0].Address())
	}
	revoker.wait()
	t.Logf("Vault did not answer a revocation for %s", revoker.longest.Round(10*time.Millisecond))
	undo()
	s.feedUp(g)
	s.revocationWorks(t, g)
	p.stop()
	p.neverFailed(t)

	var latest time.Duration
	for _, d := range doomed {
		d.probe.stop()
		for _, a := range d.probe.all() {
			switch {
			case a.status == http.StatusOK:
				latest = max(latest, a.sent.Sub(d.revoked))
			case a.status == http.StatusUnauthorized && a.sent.After(d.asked), a.status == http.StatusServiceUnavailable && a.sent.After(d.asked):
			default:
				if a.status != 0 || a.sent.Before(d.asked) { // cut where it was in flight
					t.Errorf("a token was answered %d, %s after its revocation was asked for: %v", a.status, since(a.sent, d.asked), a.err)
				}
			}
		}
		s.Delete("mcp/clients/" + d.client)
	}
	t.Logf("%d tokens were revoked in the %s around it; the last request that one passed with was sent %s after its revocation",
		len(doomed), since(time.Now(), began), latest.Round(time.Millisecond))
	if latest > promised {
		t.Errorf("a token passed %s after it was revoked", latest)
	}
	s.Delete("mcp/clients/leader-known")
}

// doomed is a token that is used until long after it was revoked.
type doomed struct {
	client         string
	probe          *probe
	asked, revoked time.Time // when the revocation was asked for, and answered
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
}

func startRevoker(t *testing.T, vault *api.Client, all []*doomed) *revoker {
	t.Helper()
	vault.SetClientTimeout(time.Second)
	r := &revoker{}
	r.done.Go(func() {
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
			r.longest = max(r.longest, d.revoked.Sub(d.asked))
			<-time.After(2 * pace)
		}
	})
	return r
}

func (r *revoker) wait() { r.done.Wait() }
