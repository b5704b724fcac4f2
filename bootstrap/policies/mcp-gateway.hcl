# The rights of a gateway in Vault: ask about tokens, follow the change feed, read the paths for
# gateways, report usage and definitions without an approval, keep its own login alive, and mint
# child tokens for the upstream credentials of clients. It has no other rights.
#
# The role that carries this policy sets token_no_default_policy: Vault's default
# policy is templated, and so parsed anew on each request.

path "mcp/lookup" {
  capabilities = ["update"]
}

path "mcp/changes" {
  capabilities = ["read"]
}

path "mcp/gateway/*" {
  capabilities = ["read"]
}

path "mcp/gateway/usage" {
  capabilities = ["update"]
}

# Of the paths that match, Vault takes this one, so it has "read" as well.
path "mcp/gateway/pins/+" {
  capabilities = ["read", "update"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

# The token role says for whom and with which policies. Without that role, which exists only
# where upstream credentials are set up, this grants nothing.
path "auth/token/create/mcp-upstream" {
  capabilities = ["update"]
}
