# The rights of an administrator of MCP clients: everything at the engine's mount except
# reading the paths for gateways; and, outside of the mount, the rights that
# `mcp-bootstrap apply` needs.
#
# People who may write ACL policies and roles can grant themselves anything, whatever
# the rest of this file says. So this is for those who set the broker up. Teams get
# mcp-team-admin.

path "mcp/config" {
  capabilities = ["read", "update"]
}

path "mcp/config/kms" {
  capabilities = ["read", "update", "delete"]
}

path "mcp/config/kms/rotate" {
  capabilities = ["update"]
}

path "mcp/servers/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# Approvals of servers' definitions. Where two people are to agree on these, give neither of them
# this policy: see mcp-registrar and mcp-approver.
path "mcp/pins/*" {
  capabilities = ["read", "update", "delete", "list"]
}

path "mcp/policies/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# With the tokens of clients by accessor: mcp/clients/NAME/tokens/ACCESSOR.
path "mcp/clients/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

path "mcp/roles/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

path "mcp/rotate-client/*" {
  capabilities = ["update"]
}

path "mcp/revoke-client/*" {
  capabilities = ["update"]
}

path "mcp/revoke-all" {
  capabilities = ["update"]
}

path "mcp/creds/*" {
  capabilities = ["read", "update"]
}

path "mcp/lookup" {
  capabilities = ["update"]
}

path "mcp/lookup-accessor" {
  capabilities = ["update"]
}

path "mcp/renew" {
  capabilities = ["update"]
}

path "mcp/revoke" {
  capabilities = ["update"]
}

path "mcp/revoke-accessor" {
  capabilities = ["update"]
}

# The list of sign-ins, and the right to end one. That right ends any token of Vault by its
# accessor.
path "mcp/sign-ins/*" {
  capabilities = ["read", "list"]
}

path "auth/token/revoke-accessor" {
  capabilities = ["update"]
}

# Usage, and the days for which it is known.
path "mcp/usage" {
  capabilities = ["read"]
}

path "mcp/usage/*" {
  capabilities = ["read"]
}

path "mcp/evaluate" {
  capabilities = ["update"]
}

path "mcp/tidy" {
  capabilities = ["update"]
}

path "mcp/tidy/status" {
  capabilities = ["read"]
}

# New keys for sealing session ids. Reading them is for gateways.
path "mcp/gateway/keys/rotate" {
  capabilities = ["update"]
}

# Every lease of a client, at once.
path "sys/leases/revoke-prefix/mcp/creds/*" {
  capabilities = ["update", "sudo"]
}

# The plugin, its mount, and reloading it after an upgrade.
path "sys/plugins/catalog/secret/vault-plugin-secrets-mcp" {
  capabilities = ["read", "update", "sudo"]
}

path "sys/plugins/reload/backend" {
  capabilities = ["update"]
}

path "sys/mounts" {
  capabilities = ["read"]
}

path "sys/mounts/mcp" {
  capabilities = ["update"]
}

path "sys/mounts/mcp/tune" {
  capabilities = ["update"]
}

# The ACL policies that come with the engine, and the gateway's login.
path "sys/policies/acl/mcp-*" {
  capabilities = ["read", "update", "delete"]
}

path "sys/auth" {
  capabilities = ["read"]
}

path "sys/auth/approle" {
  capabilities = ["update", "sudo"]
}

path "auth/approle/role/mcp-gateway" {
  capabilities = ["create", "read", "update"]
}

path "auth/approle/role/mcp-gateway/role-id" {
  capabilities = ["read"]
}

path "auth/approle/role/mcp-gateway/secret-id" {
  capabilities = ["update"]
}

# Upstream credentials: the token role under which gateways mint, and whether another role
# mints for the same aliases.
path "auth/token/roles/mcp-upstream" {
  capabilities = ["create", "read", "update", "delete"]
}

path "auth/token/roles/*" {
  capabilities = ["read", "list"]
}

# The entities for which gateways mint: doctor looks whether somebody gave them policies.
path "identity/entity-alias/id" {
  capabilities = ["list"]
}

path "identity/entity/id/*" {
  capabilities = ["read"]
}

# Sign-in: the auth methods at which people log in and that are there for nothing else, and
# the groups that let people act as clients. doctor looks which groups do.
path "sys/auth/oidc-mcp*" {
  capabilities = ["update", "delete", "sudo"]
}

path "auth/oidc-mcp*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "identity/group/name" {
  capabilities = ["list"]
}

path "identity/group/name/mcp-*" {
  capabilities = ["read", "update", "delete"]
}

path "identity/group-alias" {
  capabilities = ["update"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
