# The plugin, its mount, and the mount's configuration.

resource "vault_plugin" "mcp" {
  count = var.plugin == null ? 0 : 1

  type    = "secret"
  name    = "vault-plugin-secrets-mcp"
  version = var.plugin.version
  sha256  = var.plugin.sha256
  command = var.plugin.command

  # The mount changes to the new version before the old one goes.
  lifecycle {
    create_before_destroy = true
  }
}

resource "vault_mount" "mcp" {
  count = var.plugin == null ? 0 : 1

  path           = var.mount
  type           = vault_plugin.mcp[0].name
  plugin_version = vault_plugin.mcp[0].version
  description    = "Identities, tokens and servers of MCP clients"
}

# Every server of the cluster starts the plugin again where another program is registered.
resource "vault_generic_endpoint" "reload" {
  count = var.plugin == null ? 0 : 1

  path           = "sys/plugins/reload/backend"
  disable_read   = true
  disable_delete = true
  data_json      = jsonencode({ mounts = ["${vault_mount.mcp[0].path}/"], scope = "global" })

  lifecycle {
    replace_triggered_by = [vault_plugin.mcp[0], vault_mount.mcp[0]]
  }
}

locals {
  config = { for name, value in var.config : name => value if value != null }
}

resource "vault_generic_endpoint" "config" {
  count = length(local.config) == 0 ? 0 : 1

  path                 = "${var.mount}/config"
  ignore_absent_fields = true
  disable_delete       = true
  data_json            = jsonencode(local.config)
  depends_on           = [vault_generic_endpoint.reload]
}
