package dev

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// dialTimeout bounds the connection to a node that may be dying.
const dialTimeout = time.Second

// front is the load balancer before several Vaults, at the one address that everybody
// knows. It forwards connections to any healthy node, and each node forwards requests to
// the one that leads.
type front struct {
	listener net.Listener
	// well lists the nodes' addresses that may be tried, the best first.
	well func() []string
}

func newFront(ctx context.Context, address string, well func() []string) (*front, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w: choose another address with -vault-address", address, err)
	}
	return &front{listener, well}, nil
}

// serve passes connections on until the context ends.
func (f *front) serve(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = f.listener.Close() })
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return
		}
		running.Go(func() { f.pass(ctx, client) })
	}
}

// pass connects a client with a node, until one of them hangs up.
func (f *front) pass(ctx context.Context, client net.Conn) {
	defer client.Close()
	node := f.dial(ctx)
	if node == nil {
		return
	}
	defer node.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = client.Close(), node.Close() })
	defer stop()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{node, client}, {client, node}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			// The other direction would wait for bytes that cannot come any more.
			_, _ = client.Close(), node.Close()
		})
	}
	both.Wait()
}

func (f *front) dial(ctx context.Context) net.Conn {
	for _, address := range f.well() {
		connection, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
		if err == nil {
			return connection
		}
	}
	return nil
}
