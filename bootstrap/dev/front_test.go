package dev

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
)

// echo is a node that answers with the bytes that it gets.
func echo(t *testing.T) net.Listener {
	t.Helper()
	listener := listen(t)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				_, _ = io.Copy(connection, connection)
			}()
		}
	}()
	return listener
}

// startFront starts a front before the nodes.
func startFront(t *testing.T, nodes ...string) string {
	t.Helper()
	f, err := newFront(t.Context(), "127.0.0.1:0", func() []string { return nodes })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.serve(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f.listener.Addr().String()
}

func dialFront(t *testing.T, address string) net.Conn {
	t.Helper()
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func TestTheFrontPassesOverANodeThatIsGone(t *testing.T) {
	connection := dialFront(t, startFront(t, freeAddress(t), echo(t).Addr().String()))
	if _, err := connection.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 5)
	if _, err := io.ReadFull(connection, answer); err != nil || string(answer) != "hello" {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestTheFrontHangsUpWhereNoNodeIsWell(t *testing.T) {
	connection := dialFront(t, startFront(t, freeAddress(t)))
	if n, err := connection.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes came from nowhere", n)
	}
}

func TestTheFrontHangsUpWhenTheNodeDoes(t *testing.T) {
	node := listen(t)
	connection := dialFront(t, startFront(t, node.Addr().String()))
	accepted, err := node.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := accepted.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := connection.Read(make([]byte, 1)); err == nil {
		t.Error("the client's connection is still open")
	}
}

// TestANodeSendsClientsToTheLeaderItself: a standby does not forward every request. It
// redirects a snapshot to the leader's api_addr. Were that the front's, it would lead
// back to the standby.
func TestANodeSendsClientsToTheLeaderItself(t *testing.T) {
	s := &system{Options: Options{Dir: t.TempDir(), VaultAddress: "127.0.0.1:8200"}}
	c := &cluster{s: s}
	n, err := c.newNode(t.Context(), "vault-1")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(s.path("vault-1.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	if want := `api_addr         = "` + n.url() + `"`; !strings.Contains(string(content), want) {
		t.Errorf("%s is missing in\n%s", want, content)
	}
}

// TestTheFrontPrefersTheLeader: the nodes that answer stand behind it, and those that do
// not are left out.
func TestTheFrontPrefersTheLeader(t *testing.T) {
	c := &cluster{}
	for _, status := range []int{http.StatusTooManyRequests, http.StatusOK, http.StatusTooManyRequests, http.StatusOK} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(server.Close)
		c.nodes = append(c.nodes, &node{address: server.Listener.Addr().String()})
	}
	for _, n := range c.nodes[:3] {
		n.well.Store(true)
	}
	want := []string{c.nodes[1].address, c.nodes[0].address, c.nodes[2].address}
	if got := c.well(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
