# Servers, policies, roles and clients. Each write names every field, so a field that leaves the
# configuration is reset in Vault, too. The exceptions are fields with which people stop things or
# judge them by hand: where these are null, they are left out.

locals {
  servers = { for name, server in var.servers : name => {
    # Nobody may read these, so Terraform does not see changes by others.
    write_only = length(server.headers) + length(server.env) + length(server.files) + length(server.credentials) > 0 || length(split("?", coalesce(server.url, "-"))) > 1

    shown = merge(
      {
        transport      = server.transport
        url            = server.url
        command        = server.command
        args           = server.args
        shared         = server.shared
        description    = server.description
        vault_policies = server.vault_policies
      },
      { for field in ["disabled", "pin", "pin_kinds"] : field => server[field] if server[field] != null },
    )

    # An empty list reads back as it is, and removes what was there.
    secret = merge(
      { headers = [], env = [], files = [], credentials = null },
      { for field in ["headers", "env", "files"] : field => server[field] if length(server[field]) > 0 },
      length(server.credentials) == 0 ? {} : {
        credentials = { for name, credential in server.credentials : name => { for field, value in credential : field => value if value != null } }
      },
    )
  } }

  policy_settings = { for name, policy in var.policies : name => jsondecode(policy.settings) }

  clients = { for name, client in var.clients : name => merge(
    { for field, value in client : field => value if !contains(["metadata", "seal", "disabled"], field) },
    { metadata = length(client.metadata) == 0 ? null : client.metadata },
    { for field in ["seal", "disabled"] : field => client[field] if client[field] != null },
  ) }
}

resource "vault_generic_endpoint" "server" {
  for_each = local.servers

  path                 = "${var.mount}/servers/${each.key}"
  disable_read         = each.value.write_only
  ignore_absent_fields = true
  data_json            = jsonencode(merge(each.value.shown, each.value.secret))
  depends_on           = [vault_generic_endpoint.config, vault_generic_endpoint.reload]

  # Clients that name it change before it goes.
  lifecycle {
    create_before_destroy = true
  }
}

resource "vault_generic_endpoint" "policy" {
  for_each = var.policies

  path = "${var.mount}/policies/${each.key}"
  data_json = jsonencode(merge(
    { managed = each.value.managed },
    { for field in ["allowedMcpServers", "deniedMcpServers"] : field => local.policy_settings[each.key][field] if can(local.policy_settings[each.key][field]) },
    { for field in ["allowManagedMcpServersOnly"] : field => true if try(local.policy_settings[each.key][field], false) },
  ))
  depends_on = [vault_generic_endpoint.config, vault_generic_endpoint.reload]

  lifecycle {
    create_before_destroy = true
  }
}

resource "vault_generic_endpoint" "role" {
  for_each = var.roles

  path                 = "${var.mount}/roles/${each.key}"
  ignore_absent_fields = true
  data_json            = jsonencode(each.value)
  depends_on           = [vault_generic_endpoint.server]

  lifecycle {
    create_before_destroy = true
  }
}

resource "vault_generic_endpoint" "client" {
  for_each = local.clients

  path                 = "${var.mount}/clients/${each.key}"
  ignore_absent_fields = true
  write_fields         = var.keep_tokens_in_state ? ["token"] : []
  data_json            = jsonencode(each.value)
  depends_on           = [vault_generic_endpoint.server, vault_generic_endpoint.policy, vault_generic_endpoint.role]
}
