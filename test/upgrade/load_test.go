package upgrade

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/history"
	"vault-plugin-secrets-mcp/test/stage"
)

// pace is the time between two calls with a token at a gateway.
const pace = 20 * time.Millisecond

// load is calls with many tokens at all gateways.
type load struct {
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	readers []*reader
}

// reader calls with one token at one gateway, over and over.
type reader struct {
	at      *harness.Gateway
	reading history.Reading
	mu      sync.Mutex
}

// ends are when the end of a token was asked for, and answered.
type ends struct{ asked, answered time.Time }

// serveThroughout upgrades the engine under load, with a client revoked in the middle. Then
// clients are revoked, rotated and changed, and a role is written and deleted. Both gateways
// admit valid tokens all the time, and refuse the others within the bound.
func (b *bed) serveThroughout(t *testing.T) {
	t.Helper()
	l := &load{}
	l.ctx, l.cancel = context.WithCancel(t.Context())
	t.Cleanup(l.cancel)
	tokens := map[string]string{}
	for _, name := range []string{"steady", "ended-meanwhile", "ended-after", "turned", "narrowed", "given-a-rate"} {
		tokens[name] = b.client(name, nil)
		l.start(b.old, name, tokens[name])
		l.start(b.now, name, tokens[name])
	}
	l.await(t)

	ended := map[string]ends{}
	end := func(name string, do func()) {
		e := ends{asked: time.Now()}
		do()
		e.answered = time.Now()
		ended[name] = e
	}
	var revoking sync.WaitGroup
	view := b.In(t)
	began := time.Now()
	revoking.Go(func() {
		e := ends{asked: time.Now()}
		_, err := view.TryWrite("mcp/revoke-client/ended-meanwhile", nil)
		for err != nil && time.Since(began) < time.Minute { // the engine was not there
			_, err = view.TryWrite("mcp/revoke-client/ended-meanwhile", nil)
		}
		e.answered = time.Now()
		ended["ended-meanwhile"] = e
	})
	b.UseEngine(b.Programs.Plugin)
	require.NoError(t, provision.Policy(t.Context(), b.Vault.Client(), policies.GatewayName, policies.Gateway))
	t.Logf("the upgrade of the engine took %s", time.Since(began).Round(time.Millisecond))
	revoking.Wait()
	require.Contains(t, b.Read("mcp/gateway/servers"), "pinned_servers", "the present engine does not run")
	l.await(t)

	end("ended-after", func() { b.Write("mcp/revoke-client/ended-after", nil) })
	end("turned", func() {
		next := b.Token(b.Write("mcp/rotate-client/turned", harness.Map{"grace_period": "0"}))
		l.start(b.old, "turned-next", next)
		l.start(b.now, "turned-next", next)
	})
	end("narrowed", func() { b.Write("mcp/clients/narrowed", harness.Map{"allowed_servers": "notes"}) })
	end("given-a-rate", func() { b.Write("mcp/clients/given-a-rate", harness.Map{"rate_limit": 1000}) })
	b.Write("mcp/roles/passing", harness.Map{"allowed_servers": calculator})
	b.Write("mcp/roles/passing", harness.Map{"allowed_servers": "notes"})
	b.Delete("mcp/roles/passing")
	<-time.After(time.Until(ended["given-a-rate"].answered.Add(stage.InForce))) // so that some are asked after the bound
	l.await(t)
	l.cancel()
	l.running.Wait()
	l.judge(t, b, ended)
}

func (l *load) start(at *harness.Gateway, name, token string) {
	r := &reader{at: at, reading: history.Reading{Token: name}}
	l.readers = append(l.readers, r)
	client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	l.running.Go(func() {
		defer client.CloseIdleConnections()
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for l.ctx.Err() == nil {
			a := ask(client, at.ServerURL(calculator), token)
			r.mu.Lock()
			r.reading.Answers = append(r.reading.Answers, a)
			r.mu.Unlock()
			select {
			case <-tick.C:
			case <-l.ctx.Done():
			}
		}
	})
}

// ask calls the calculator once. It is not cut: an answer that is cut says nothing.
func ask(client *http.Client, url, token string) history.Answer {
	a := history.Answer{Sent: time.Now()}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader(harness.CallBody("add", `{"a":40,"b":2}`)))
	if err == nil {
		for name, value := range map[string]string{
			"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
			"Mcp-Protocol-Version": harness.StatelessEra, "Mcp-Method": "tools/call", "Mcp-Name": "add",
		} {
			request.Header.Set(name, value)
		}
		var response *http.Response
		if response, err = client.Do(request); err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			a.Status, a.RetryAfter = response.StatusCode, response.Header.Get("Retry-After")
		}
	}
	if a.Came, a.Err = time.Now(), err; err != nil {
		a.Status = 0
	}
	return a
}

// await waits until each token has been used some times more at each gateway.
func (l *load) await(t *testing.T) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for _, r := range l.readers {
		for enough := r.count() + 10; r.count() < enough; {
			select {
			case <-deadline:
				t.Fatalf("the load stands still: %s", r.reading.Token)
			case <-tick.C:
			}
		}
	}
}

func (r *reader) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.reading.Answers)
}

// judge holds each gateway to its promise. A client that was given a rate is as good as ended at
// an old gateway, which does not know rates, and goes on at the others.
func (l *load) judge(t *testing.T, b *bed, ended map[string]ends) {
	t.Helper()
	promise := &history.Promise{Bound: stage.InForce, MaxStale: 30 * time.Second}
	for _, r := range l.readers {
		version := "the present"
		if r.at == b.old {
			version = "the old"
		}
		name := r.reading.Token
		if e, ok := ended[name]; ok && (name != "given-a-rate" || r.at == b.old) {
			r.reading.EndAsked, r.reading.EndAnswered = e.asked, e.answered
		}
		counts := map[int]int{}
		for i := range r.reading.Answers {
			a := &r.reading.Answers[i]
			counts[a.Status]++
			if a.Status == http.StatusForbidden { // so are clients refused that may not reach the server any more
				a.Status = http.StatusUnauthorized
			}
		}
		t.Logf("at %s gateway, %s: %v", version, name, counts)
		require.NoError(t, promise.Judge(&r.reading), "at %s gateway", version)
		require.NotZero(t, counts[http.StatusOK], "at %s gateway, %s", version, name)
		if !r.reading.EndAsked.IsZero() {
			require.NotZero(t, counts[http.StatusUnauthorized]+counts[http.StatusForbidden], "at %s gateway, %s", version, name)
		}
	}
}
