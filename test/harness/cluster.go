package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/cluster"
	"vault-plugin-secrets-mcp/bootstrap/process"
)

// startCluster runs Vault on integrated storage. The first node is initialized,
// the others join it.
func startCluster(ctx context.Context, h *Harness, o *options) (*Vault, error) {
	v, err := newVault(h)
	if err != nil {
		return nil, err
	}
	for i := range o.nodes {
		var place *Place
		if o.places != nil {
			place = &o.places[i]
		}
		node, err := v.newNode(fmt.Sprintf("vault-%d", i+1), place, o.quick)
		if err != nil {
			return nil, err
		}
		v.Nodes = append(v.Nodes, node)
	}
	if err := v.Nodes[0].start(ctx); err != nil {
		return nil, err
	}
	if err := v.initialize(ctx); err != nil {
		return nil, err
	}
	for _, node := range v.Nodes {
		if err := node.startUnsealed(ctx); err != nil {
			return nil, err
		}
	}
	if err := v.awaitVoters(ctx); err != nil {
		return nil, err
	}
	return v, nil
}

// awaitVoters waits until every node has a vote. Until then a leader that dies
// has no successor.
func (v *Vault) awaitVoters(ctx context.Context) error {
	first := v.Nodes[0]
	return first.process.Await(ctx, patience, func(ctx context.Context) error {
		answer, err := first.Client().Logical().ReadWithContext(ctx, "sys/storage/raft/autopilot/state")
		if err != nil {
			return err
		}
		if voters, ok := answer.Data["voters"].([]any); !ok || len(voters) != len(v.Nodes) {
			return fmt.Errorf("the voters are %v", answer.Data["voters"])
		}
		return nil
	})
}

// slowNetwork multiplies raft's timeouts where a test cuts links, unless it has the machine
// alone: on a busy one, a leader whose messages are late must not be replaced.
const slowNetwork = 5

func (v *Vault) newNode(name string, place *Place, quick bool) (*Node, error) {
	dir := filepath.Join(v.h.Dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	node := &Node{vault: v, name: name, place: place}
	settings := cluster.Node{Name: name, Plugins: v.plugins, Data: dir}
	if place == nil {
		node.address = FreeAddress(v.h.t)
		settings.Address, settings.ClusterAddress = node.address, FreeAddress(v.h.t)
	} else {
		node.address = net.JoinHostPort(place.Name, vaultPort)
		settings.Address = net.JoinHostPort(place.Address, vaultPort)
		settings.ClusterAddress = net.JoinHostPort(place.Address, clusterPort)
		settings.CertFile, settings.KeyFile = place.Certificate, place.Key
		if !quick {
			settings.Multiplier = slowNetwork
		}
	}
	settings.APIAddress = node.Address()
	config := v.common() + settings.File()
	path := filepath.Join(v.h.Dir, name+".hcl")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	node.spec = process.Spec{
		Name: name,
		Path: v.h.Programs.Vault,
		Args: []string{"server", "-config=" + path},
		Env:  RaceEnv(),
		Log:  filepath.Join(v.h.Dir, name+".log"),
	}
	if place != nil {
		node.spec = place.Enter(node.spec)
	}
	return node, nil
}

// initialize makes the keys and the root token of a new cluster, and shortens
// the time that a new node waits for its vote.
func (v *Vault) initialize(ctx context.Context) error {
	first := v.Nodes[0]
	err := first.process.Await(ctx, patience, func(ctx context.Context) error {
		answer, err := first.Client().Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
		if err != nil {
			return err
		}
		v.RootToken, v.unseal = answer.RootToken, answer.KeysB64[0]
		return nil
	})
	if err != nil {
		return err
	}
	if err := first.startUnsealed(ctx); err != nil {
		return err
	}
	_, err = first.Client().Logical().WriteWithContext(ctx, "sys/storage/raft/autopilot/configuration", Map{
		"server_stabilization_time": "500ms",
	})
	return err
}

// startUnsealed starts a node if it does not run, and waits until it answers requests. A
// new node joins the first.
func (n *Node) startUnsealed(ctx context.Context) error {
	if n.vault.unseal == "" {
		return errors.New("a Vault in dev mode cannot be started again: nothing is left of it")
	}
	if !n.Running() {
		if err := n.start(ctx); err != nil {
			return err
		}
	}
	client := n.Client()
	status, err := client.Sys().SealStatusWithContext(ctx)
	if err != nil {
		return err
	}
	if !status.Initialized {
		join := &api.RaftJoinRequest{LeaderAPIAddr: n.vault.Nodes[0].Address()}
		if n.place != nil {
			authority, err := os.ReadFile(n.place.Authority)
			if err != nil {
				return err
			}
			join.LeaderCACert = string(authority)
		}
		if _, err := client.Sys().RaftJoinWithContext(ctx, join); err != nil {
			return err
		}
	}
	if status.Sealed {
		if _, err := client.Sys().UnsealWithContext(ctx, n.vault.unseal); err != nil {
			return err
		}
	}
	return n.process.Await(ctx, patience, func(ctx context.Context) error { return healthy(ctx, client) })
}

// Leader returns the node that leads now. It fails the test if none leads for a minute.
func (v *Vault) Leader() *Node {
	v.h.t.Helper()
	var leader *Node
	v.h.Eventually("a node leads", func() error {
		for _, node := range v.Nodes {
			if !node.Running() {
				continue
			}
			status, err := node.Client().Sys().Leader()
			if err == nil && status.IsSelf {
				leader = node
				return nil
			}
		}
		return errors.New("none does")
	})
	return leader
}

// AwaitLeader waits until all running nodes name the same leader, and get an answer from
// it. That takes some time after a change of leader, and after an earlier leader is back.
func (v *Vault) AwaitLeader() {
	v.h.t.Helper()
	v.h.Eventually("every node knows the leader", func() error {
		known := map[string]bool{}
		for _, node := range v.Nodes {
			if !node.Running() {
				continue
			}
			client := node.Client()
			client.SetClientTimeout(time.Second)
			status, err := client.Sys().LeaderWithContext(v.h.t.Context())
			if err != nil {
				return err
			}
			if known[status.LeaderAddress] = true; status.IsSelf != (status.LeaderAddress == node.Address()) {
				return fmt.Errorf("%s leads, says %s: %t", status.LeaderAddress, node.Address(), status.IsSelf)
			}
			if err := healthy(v.h.t.Context(), client); err != nil {
				return err
			}
		}
		if len(known) != 1 || known[""] {
			return fmt.Errorf("the leaders are %v", known)
		}
		return nil
	})
}

// Standby returns a node that runs and does not lead.
func (v *Vault) Standby() *Node {
	v.h.t.Helper()
	leader := v.Leader()
	for _, node := range v.Nodes {
		if node != leader && node.Running() {
			return node
		}
	}
	v.h.t.Fatal("no standby runs")
	return nil
}
