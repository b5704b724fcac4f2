# The rights of an MCP client, or of the Vault Agent beside it, in Vault: get a token
# for the client with the name of its own AppRole role, and keep that token and its
# login alive. One policy serves every client.
#
# AUTH_ACCESSOR stands for the accessor of the auth method that clients log in
# with: `vault read -field=accessor sys/auth/approle`. `mcp-bootstrap apply` puts
# it in. For Kubernetes, take metadata.service_account_name instead of role_name.

path "mcp/creds/{{identity.entity.aliases.AUTH_ACCESSOR.metadata.role_name}}" {
  # A template's argument turns a read into an "update": secret "…" "ttl=5m".
  capabilities = ["read", "update"]
}

path "sys/leases/renew" {
  capabilities = ["update"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
