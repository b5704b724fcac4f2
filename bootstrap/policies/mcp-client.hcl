# What an MCP client, or the Vault Agent beside it, may do in Vault: get a token
# for the client whose name its own AppRole role bears, and keep that and its
# login alive. One policy serves every client.
#
# AUTH_ACCESSOR stands for the accessor of the auth method that clients log in
# with: `vault read -field=accessor sys/auth/approle`. `mcp-bootstrap apply` puts
# it in. For Kubernetes, take metadata.service_account_name instead of role_name.

path "mcp/creds/{{identity.entity.aliases.AUTH_ACCESSOR.metadata.role_name}}" {
  # "update" is what a template's argument makes of a read: secret "…" "ttl=5m".
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
