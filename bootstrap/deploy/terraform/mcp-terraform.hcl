# What Terraform may do in Vault besides mcp-admin, to apply and destroy the module with the plugin,
# the mount and the gateways' logins. Without these (plugin = null, approle = null, kubernetes = null),
# mcp-admin is enough.

path "sys/plugins/catalog/secret/vault-plugin-secrets-mcp" {
  capabilities = ["read", "update", "delete", "sudo"]
}

path "sys/mounts/mcp" {
  capabilities = ["read", "update", "delete"]
}

path "sys/auth/approle" {
  capabilities = ["read", "update", "delete", "sudo"]
}

path "sys/mounts/auth/approle" {
  capabilities = ["read"]
}

path "sys/mounts/auth/approle/tune" {
  capabilities = ["read"]
}

path "auth/approle/role/mcp-gateway" {
  capabilities = ["create", "read", "update", "delete"]
}

path "auth/kubernetes/role/mcp-gateway" {
  capabilities = ["create", "read", "update", "delete"]
}
