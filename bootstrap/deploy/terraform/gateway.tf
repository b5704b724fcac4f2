# The gateways' login. It has the policy mcp-gateway alone, and lasts as long as the gateway
# renews it. No secret id is made here: it would be in the state.

locals {
  enable_approle   = try(var.approle.enable, false)
  find_approle     = var.approle != null && !local.enable_approle
  approle_accessor = local.enable_approle ? vault_auth_backend.approle[0].accessor : local.find_approle ? data.vault_auth_backend.approle[0].accessor : ""
}

resource "vault_auth_backend" "approle" {
  count = local.enable_approle ? 1 : 0

  type = "approle"
  path = var.approle.path
}

data "vault_auth_backend" "approle" {
  count = local.find_approle ? 1 : 0

  path = var.approle.path
}

resource "vault_approle_auth_backend_role" "gateway" {
  count = var.approle == null ? 0 : 1

  backend                 = local.enable_approle ? vault_auth_backend.approle[0].path : var.approle.path
  role_name               = "mcp-gateway"
  token_policies          = [vault_policy.mcp["mcp-gateway"].name]
  token_no_default_policy = true
  token_period            = 3600
  token_bound_cidrs       = var.approle.token_bound_cidrs
}

resource "vault_kubernetes_auth_backend_role" "gateway" {
  count = var.kubernetes == null ? 0 : 1

  backend                          = var.kubernetes.path
  role_name                        = "mcp-gateway"
  bound_service_account_names      = var.kubernetes.service_accounts
  bound_service_account_namespaces = var.kubernetes.namespaces
  audience                         = var.kubernetes.audience
  token_policies                   = [vault_policy.mcp["mcp-gateway"].name]
  token_no_default_policy          = true
  token_period                     = 3600
  token_bound_cidrs                = var.kubernetes.token_bound_cidrs
}
