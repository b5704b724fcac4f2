package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	local "vault-plugin-secrets-mcp/bootstrap/cluster"
	"vault-plugin-secrets-mcp/bootstrap/process"
)

// With Options.HA, Vault is three servers on integrated storage, behind one address
// (front). One that ends is started again, so that one may kill them.

const (
	nodeCount = 3
	// restartDelay leaves time to see the others do without it.
	restartDelay = 5 * time.Second
	// leaderTimeout bounds the question who leads, before each connection.
	leaderTimeout = 300 * time.Millisecond
)

// cluster is the three servers.
type cluster struct {
	s     *system
	nodes []*node
	group process.Group

	unsealKey string
	stopped   context.CancelFunc
	running   sync.WaitGroup
}

// node is one server.
type node struct {
	name    string
	address string // host:port
	spec    process.Spec
	process *process.Process
	well    atomic.Bool // it runs and is unsealed
}

func (n *node) url() string { return "http://" + n.address }

// startCluster starts the nodes, joins them, and puts the front before them.
func (s *system) startCluster(ctx context.Context) error {
	// The nodes outlive the context, whose end is Ctrl-C: the others end first.
	background, stopped := context.WithCancel(context.WithoutCancel(ctx))
	c := &cluster{s: s, stopped: stopped}
	s.cluster = c
	for i := range nodeCount {
		n, err := c.newNode(ctx, "vault-"+strconv.Itoa(i+1))
		if err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
	}
	if err := c.startNodes(ctx); err != nil {
		return err
	}
	f, err := newFront(ctx, s.VaultAddress, c.well)
	if err != nil {
		return err
	}
	c.running.Go(func() { f.serve(background) })
	for _, n := range c.nodes {
		c.running.Go(func() { c.keep(background, n) })
	}
	return nil
}

func (c *cluster) newNode(ctx context.Context, name string) (*node, error) {
	addresses, err := freePorts(ctx, 2)
	if err != nil {
		return nil, fmt.Errorf("cannot find a port for %s: %w", name, err)
	}
	n := &node{name: name, address: addresses[0]}
	data := c.s.path(name)
	if err := errors.Join(os.RemoveAll(data), os.Mkdir(data, 0o700)); err != nil {
		return nil, fmt.Errorf("cannot make the folder of %s: %w", name, err)
	}
	// A node that does not pass a request on, such as that for a snapshot, sends its
	// client to the leader's api_addr. The front's would lead back to the same node.
	settings := local.Node{
		Name: name, Address: n.address, ClusterAddress: addresses[1], APIAddress: n.url(),
		Plugins: c.s.path("plugins"), Data: data,
	}
	if err := c.s.write(name+".hcl", "# Written by mcp-bootstrap dev.\n"+settings.File()); err != nil {
		return nil, err
	}
	n.spec = process.Spec{
		Name: name, Path: c.s.Vault, Args: []string{"server", "-config=" + c.s.path(name+".hcl")}, Log: c.s.log(name),
	}
	return n, nil
}

// freePorts finds ports on the loopback that nobody uses.
func freePorts(ctx context.Context, count int) (addresses []string, err error) {
	var held []net.Listener // until all are known
	for range count {
		listener, listenErr := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err = listenErr; err != nil {
			break
		}
		held = append(held, listener)
		addresses = append(addresses, listener.Addr().String())
	}
	for _, listener := range held {
		err = errors.Join(err, listener.Close())
	}
	return addresses, err
}

// startNodes starts all nodes, and returns once each has a vote: until then a leader
// that dies has no successor.
func (c *cluster) startNodes(ctx context.Context) error {
	for _, n := range c.nodes {
		if err := c.start(n); err != nil {
			return err
		}
	}
	first := c.nodes[0]
	if err := c.initialize(ctx, first); err != nil {
		return err
	}
	for _, n := range c.nodes {
		if err := c.unseal(ctx, n); err != nil {
			return err
		}
	}
	return first.process.Await(ctx, startTimeout, func(ctx context.Context) error {
		client, err := c.client(first)
		if err != nil {
			return err
		}
		state, err := client.Logical().ReadWithContext(ctx, "sys/storage/raft/autopilot/state")
		if err != nil || state == nil {
			return errors.Join(err, errors.New("the cluster does not say who votes"))
		}
		if voters, _ := state.Data["voters"].([]any); len(voters) != nodeCount {
			return fmt.Errorf("%d of %d nodes have a vote", len(voters), nodeCount)
		}
		return nil
	})
}

// start runs a node's server, and writes down its process id for people who want to
// kill it.
func (c *cluster) start(n *node) (err error) {
	if n.process, err = c.group.Start(n.spec); err != nil {
		return err
	}
	return c.s.write(n.name+".pid", strconv.Itoa(n.process.Pid())+"\n")
}

// initialize makes the key that unseals, which stays in memory, and the root token.
func (c *cluster) initialize(ctx context.Context, n *node) error {
	client, err := c.client(n)
	if err != nil {
		return err
	}
	err = n.process.Await(ctx, startTimeout, func(ctx context.Context) error {
		answer, err := client.Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
		if err == nil {
			c.s.rootToken, c.unsealKey = answer.RootToken, answer.KeysB64[0]
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := c.unseal(ctx, n); err != nil {
		return err
	}
	if client, err = c.client(n); err != nil {
		return err
	}
	_, err = client.Logical().WriteWithContext(ctx, "sys/storage/raft/autopilot/configuration", map[string]any{"server_stabilization_time": "500ms"})
	if err != nil {
		return fmt.Errorf("cannot configure the cluster: %w", err)
	}
	return nil
}

// unseal brings a node that runs to where it answers requests. A new one joins the
// first.
func (c *cluster) unseal(ctx context.Context, n *node) error {
	client, err := c.client(n)
	if err != nil {
		return err
	}
	err = n.process.Await(ctx, startTimeout, func(ctx context.Context) error {
		status, err := client.Sys().SealStatusWithContext(ctx)
		if err != nil {
			return err
		}
		if !status.Initialized {
			if _, err := client.Sys().RaftJoinWithContext(ctx, &api.RaftJoinRequest{LeaderAPIAddr: c.nodes[0].url()}); err != nil {
				return err
			}
		}
		if status.Sealed {
			if _, err := client.Sys().UnsealWithContext(ctx, c.unsealKey); err != nil {
				return err
			}
		}
		_, err = client.Auth().Token().LookupSelfWithContext(ctx)
		return err
	})
	n.well.Store(err == nil)
	return err
}

func (c *cluster) client(n *node) (*api.Client, error) { return c.s.clientFor(n.url()) }

// well are the addresses of the nodes that answer, the one that leads first: a snapshot,
// which no other gives, is redirected to it, and Vault's own client loses the answer then.
func (c *cluster) well() []string {
	var addresses []string
	for _, n := range c.nodes {
		switch {
		case !n.well.Load():
		case n.leads():
			addresses = slices.Insert(addresses, 0, n.address)
		default:
			addresses = append(addresses, n.address)
		}
	}
	return addresses
}

// leads reports whether the node says at once that it does.
func (n *node) leads() bool {
	client := &http.Client{Timeout: leaderTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Head(n.url() + "/v1/sys/health") //nolint:noctx // it has a timeout
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK // a standby's is 429
}

// keep starts a node again whenever it ends.
func (c *cluster) keep(ctx context.Context, n *node) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.process.Done():
		}
		n.well.Store(false)
		fmt.Fprintf(c.s.out, "%s has ended; it is started again in %s\n", n.name, restartDelay)
		select {
		case <-ctx.Done():
			return
		case <-time.After(restartDelay):
		}
		err := c.start(n)
		if err == nil {
			err = c.unseal(ctx, n)
		}
		if err != nil && ctx.Err() == nil {
			fmt.Fprintf(c.s.out, "%s does not come back: %v\n", n.name, err)
			continue
		}
		fmt.Fprintf(c.s.out, "%s is back\n", n.name)
	}
}

// stop ends the front and the nodes, and removes their storage.
func (c *cluster) stop() {
	c.stopped()
	c.running.Wait()
	c.group.Stop(stopGrace, func(p *process.Process) { fmt.Fprintf(c.s.out, "Stopping %s\n", p.Name()) })
	for _, n := range slices.Backward(c.nodes) {
		_ = errors.Join(os.RemoveAll(c.s.path(n.name)), os.Remove(c.s.path(n.name+".pid")))
	}
}
