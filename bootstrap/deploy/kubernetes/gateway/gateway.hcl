vault {
  address      = "https://vault.example.com:8200" # CHANGE
  ca_cert_file = "/etc/vault-ca/ca.crt"

  auth "kubernetes" {
    role     = "mcp-gateway"
    jwt_file = "/var/run/vault/token" # for Vault only: see deployment.yaml
  }
}

listener {
  address       = "0.0.0.0:8443"
  tls_cert_file = "/etc/mcp-gateway-tls/tls.crt"
  tls_key_file  = "/etc/mcp-gateway-tls/tls.key"
  public_url    = "https://mcp.example.com" # CHANGE
  allowed_hosts = ["mcp-gateway.mcp.svc"]

  # Services and load balancers stop sending requests within this time.
  drain_delay   = "10s"
  drain_timeout = "30s"
}

admin {
  address = "0.0.0.0:8081" # for the kubelet's probes, which come from outside; networkpolicy.yaml keeps others away
}

audit {
  file = "stdout" # the gateway's own log is on stderr
}

# CHANGE: the allowed addresses of MCP servers. Without this, whoever may write
# mcp/servers/ could point the gateway at anything in the cluster.
upstream_allow = ["*.mcp-servers.svc.cluster.local", "api.githubcopilot.com"]
