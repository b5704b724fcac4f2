# The rights of an auditor who runs `mcp-bootstrap review`: read the rights of clients, and
# the usage that gateways have reported. It reads no token, no accessor except that of a
# client's present token, and no secret of a server; it changes nothing.

path "mcp/clients" {
  capabilities = ["list"]
}

path "mcp/clients/+" {
  capabilities = ["read"]
}

path "mcp/roles" {
  capabilities = ["list"]
}

path "mcp/roles/+" {
  capabilities = ["read"]
}

path "mcp/servers" {
  capabilities = ["list"]
}

path "mcp/servers/+" {
  capabilities = ["read"]
}

# Approvals of servers' definitions, with their approvers.
path "mcp/pins" {
  capabilities = ["list"]
}

path "mcp/pins/+" {
  capabilities = ["read"]
}

path "mcp/policies" {
  capabilities = ["list"]
}

path "mcp/policies/+" {
  capabilities = ["read"]
}

# Decisions about servers whose URLs have a query, which nobody may read.
path "mcp/evaluate" {
  capabilities = ["update"]
}

path "mcp/usage" {
  capabilities = ["read"]
}

path "mcp/usage/clients/+" {
  capabilities = ["read"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}
