# mcp-gateway's configuration, with everything else at its default: clients connect to
# http://127.0.0.1:8080/mcp, and decisions go to standard output. gateway.reference.hcl has
# every other setting, docs/gateway.md explains them.
# Check a file with: mcp-gateway -config FILE -check-config

vault {
  address = "https://vault.example.com:8200"
  auth "approle" {
    role_id_file   = "/etc/mcp-gateway/role_id"
    secret_id_file = "/etc/mcp-gateway/secret_id"
  }
}
