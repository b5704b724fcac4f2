// Package cluster writes the files of Vault servers that form one cluster on one
// machine, on integrated storage: for mcp-bootstrap dev, and for tests.
package cluster

import "fmt"

// Node is one server.
type Node struct {
	Name string
	// Address and ClusterAddress are where it listens, host:port.
	Address, ClusterAddress string
	// APIAddress is the URL to which a client is sent whose request cannot be passed
	// on to the leader.
	APIAddress string
	// CertFile and KeyFile are in PEM. Without them it speaks plain HTTP.
	CertFile, KeyFile string
	// Plugins and Data are its folders.
	Plugins, Data string
	// Multiplier is Vault's performance_multiplier, the factor of raft's timeouts. 0
	// means 1, which is right for nodes on one machine; Vault's own default is 5.
	Multiplier int
}

// File is the server's configuration. A leader that dies is missed, and a new node
// gets its vote, sooner than by Vault's defaults, which are for slower networks.
func (n *Node) File() string {
	tls := "tls_disable     = true"
	if n.CertFile != "" {
		tls = fmt.Sprintf("tls_cert_file   = %q\n  tls_key_file    = %q", n.CertFile, n.KeyFile)
	}
	return fmt.Sprintf(nodeFile, n.Plugins, n.APIAddress, n.ClusterAddress, n.Address, n.ClusterAddress, tls, n.Data, n.Name, max(n.Multiplier, 1))
}

const nodeFile = `plugin_directory = %q
disable_mlock    = true
api_addr         = %q
cluster_addr     = "https://%s"
listener "tcp" {
  address         = %q
  cluster_address = %q
  %s
}
storage "raft" {
  path                         = %q
  node_id                      = %q
  performance_multiplier       = %d
  autopilot_reconcile_interval = "500ms"
  autopilot_update_interval    = "500ms"
}
`
