# The rights of a child token in Vault. A gateway mints one for each client and server
# with upstream credentials, as the client, and reads the credentials with it. The child
# keeps itself and its leases alive, and ends itself and every lease with it.
#
# The token role mcp-upstream gives no default policy, so this is all that a child has
# besides the secrets that you grant it.

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}

path "sys/leases/renew" {
  capabilities = ["update"]
}

# Grant the secrets here or in policies of their own. A path without a template grants the same
# secret to every client; the template is the alias of the client that the child is minted for,
# such as mcp:cursor-local. TOKEN_ACCESSOR stands for the accessor of Vault's token method:
# `vault read -field=accessor sys/auth/token`. `mcp-bootstrap apply` puts it in, here and in the
# rules of the files.
#
# path "database/creds/orders-ro" {
#   capabilities = ["read"]
# }
#
# path "kv/data/mcp/{{identity.entity.aliases.TOKEN_ACCESSOR.name}}/*" {
#   capabilities = ["read"]
# }
