# What somebody may do who approves what MCP servers say of themselves: read what gateways
# have reported, approve it, withdraw approvals. They see which servers there are, without
# the values of headers and variables, and can register none and change none.
#
# Who registers servers gets mcp-registrar: so nobody alone brings a text before the models of
# others.

path "mcp/pins/*" {
  capabilities = ["list", "read", "update", "delete"]
}

path "mcp/servers/*" {
  capabilities = ["list", "read"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}
