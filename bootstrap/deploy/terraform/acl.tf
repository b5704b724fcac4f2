# The ACL policies of bootstrap/policies, as they are, for the engine's mount.

locals {
  acl_policies = setsubtract(setunion(var.acl_policies, ["mcp-gateway"]), var.approle == null ? ["mcp-client"] : [])

  # The files are for an engine at mcp/.
  acl_rules = { for name in local.acl_policies : name => replace(
    replace(
      replace(
        replace(
          replace(
            file("${path.module}/../../policies/${name}.hcl"),
            "\"mcp/", "\"${var.mount}/"
          ), "revoke-prefix/mcp/creds/", "revoke-prefix/${var.mount}/creds/"
        ), "\"sys/mounts/mcp\"", "\"sys/mounts/${var.mount}\""
      ), "\"sys/mounts/mcp/tune\"", "\"sys/mounts/${var.mount}/tune\""
    ), "AUTH_ACCESSOR", local.approle_accessor
  ) }
}

resource "vault_policy" "mcp" {
  for_each = local.acl_rules

  name   = each.key
  policy = each.value
}
