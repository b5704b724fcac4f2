output "mount" {
  description = "Path of the engine's mount."
  value       = var.mount
}

output "acl_policies" {
  description = "Names of the ACL policies."
  value       = sort([for policy in vault_policy.mcp : policy.name])
}

output "gateway_role_id" {
  description = "The role id with which gateways log in at AppRole. Null: there is no such role. The secret id is yours to make: `vault write -f auth/approle/role/mcp-gateway/secret-id`."
  value       = one(vault_approle_auth_backend_role.gateway[*].role_id)
}

output "client_tokens" {
  description = "WARNING: the tokens of the clients that this state has created, in clear, with keep_tokens_in_state. Otherwise empty."
  value       = { for name, client in vault_generic_endpoint.client : name => client.write_data["token"] if contains(keys(client.write_data), "token") }
  sensitive   = true
}
