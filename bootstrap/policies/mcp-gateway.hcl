# What a gateway may do in Vault, and nothing else: ask about tokens, follow the
# change feed, read what only gateways may read, and keep its own login alive.
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

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
