# Vault Agent writes a whole client configuration with the token in it. For clients that
# neither run a helper nor read their environment again.
#
#   MCP_CLIENT=cursor-local MCP_URL=https://mcp.example.com/mcp \
#     VAULT_ADDR=https://vault.example.com:8200 vault agent -config=client-config.hcl

auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "/etc/mcp-client/role_id"
      secret_id_file_path                 = "/etc/mcp-client/secret_id"
      # The Agent reads it again after a restart, so the file stays: mode 0600, for the
      # Agent's account only. Send it wrapped, and unwrap it once, on arrival.
      remove_secret_id_file_after_reading = false
    }
  }
}

template_config {
  exit_on_retry_failure = true
}

template {
  source      = "/etc/mcp-client/mcp.json.ctmpl"
  destination = "/run/mcp-client/mcp.json"
  perms       = "0600"
}
