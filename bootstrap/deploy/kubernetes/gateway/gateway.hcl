admin {
  address = "0.0.0.0:8081" # for the kubelet's probes, which come from outside; networkpolicy.yaml keeps others away
}
audit {
  file = "stdout" # the gateway's own log is on stderr
}
listener {
  address = "0.0.0.0:8443"
  allowed_hosts = ["mcp-gateway.mcp.svc"]
  drain_delay = "10s" # Services and load balancers stop sending requests within this time
  drain_timeout = "30s"
  public_url = "https://mcp.example.com" # CHANGE
  tls_cert_file = "/etc/mcp-gateway-tls/tls.crt"
  tls_key_file = "/etc/mcp-gateway-tls/tls.key"
}
upstream_allow = ["*.mcp-servers.svc.cluster.local","api.githubcopilot.com"] # CHANGE: without it, whoever may write mcp/servers/ could point the gateway at anything in the cluster
vault {
  address = "https://vault.example.com:8200" # CHANGE
  auth "kubernetes" {
    jwt_file = "/var/run/vault/token" # for Vault only: see deployment.yaml
    role = "mcp-gateway"
  }
  ca_cert_file = "/etc/vault-ca/ca.crt"
}
