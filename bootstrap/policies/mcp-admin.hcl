# What an administrator of MCP clients may do: everything at the engine's mount
# but read what is for gateways, and what `mcp-bootstrap apply` does to Vault
# around it.
#
# Who may write ACL policies and roles can grant themselves anything, whatever
# else stands here. So this is for those who set the broker up. Teams get
# mcp-team-admin.

path "mcp/config" {
  capabilities = ["read", "create", "update"]
}

path "mcp/config/kms" {
  capabilities = ["read", "create", "update", "delete"]
}

path "mcp/config/kms/rotate" {
  capabilities = ["create", "update"]
}

path "mcp/servers/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "mcp/policies/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# With the tokens of clients by accessor: mcp/clients/NAME/tokens/ACCESSOR.
path "mcp/clients/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

path "mcp/rotate-client/*" {
  capabilities = ["create", "update"]
}

path "mcp/revoke-client/*" {
  capabilities = ["create", "update"]
}

path "mcp/revoke-all" {
  capabilities = ["create", "update"]
}

path "mcp/creds/*" {
  capabilities = ["read", "create", "update"]
}

path "mcp/lookup" {
  capabilities = ["create", "update"]
}

path "mcp/lookup-accessor" {
  capabilities = ["create", "update"]
}

path "mcp/renew" {
  capabilities = ["create", "update"]
}

path "mcp/revoke" {
  capabilities = ["create", "update"]
}

path "mcp/revoke-accessor" {
  capabilities = ["create", "update"]
}

path "mcp/evaluate" {
  capabilities = ["create", "update"]
}

path "mcp/tidy" {
  capabilities = ["create", "update"]
}

path "mcp/tidy/status" {
  capabilities = ["read"]
}

# New keys for sealing session ids. Reading them is for gateways.
path "mcp/gateway/keys/rotate" {
  capabilities = ["create", "update"]
}

# Every lease of a client, at once.
path "sys/leases/revoke-prefix/mcp/creds/*" {
  capabilities = ["update", "sudo"]
}

# The plugin, its mount, and reloading it after an upgrade.
path "sys/plugins/catalog/secret/vault-plugin-secrets-mcp" {
  capabilities = ["create", "read", "update", "sudo"]
}

path "sys/plugins/reload/backend" {
  capabilities = ["update", "sudo"]
}

path "sys/mounts" {
  capabilities = ["read"]
}

path "sys/mounts/mcp" {
  capabilities = ["create", "read", "update"]
}

path "sys/mounts/mcp/tune" {
  capabilities = ["read", "update"]
}

# The ACL policies that come with the engine, and the gateway's login.
path "sys/policies/acl/mcp-*" {
  capabilities = ["create", "read", "update", "delete"]
}

path "sys/auth" {
  capabilities = ["read"]
}

path "sys/auth/approle" {
  capabilities = ["create", "update", "sudo"]
}

path "auth/approle/role/mcp-gateway" {
  capabilities = ["create", "read", "update"]
}

path "auth/approle/role/mcp-gateway/role-id" {
  capabilities = ["read"]
}

path "auth/approle/role/mcp-gateway/secret-id" {
  capabilities = ["create", "update"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
