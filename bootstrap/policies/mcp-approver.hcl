# For a person who approves definitions of MCP servers: reads the definitions that gateways
# have reported, approves them, withdraws approvals. They see the servers, without the values
# of headers and variables, and can neither register nor change any.
#
# A person who registers servers gets mcp-registrar, so no one person alone brings a text to
# the models of others.

path "mcp/pins/*" {
  capabilities = ["list", "read", "update", "delete"]
}

path "mcp/servers/*" {
  capabilities = ["list", "read"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}
