# Vault Agent keeps a client's token in a file. For programs that read it when they
# connect, such as Claude Code through mcp-headers.sh.
#
#   MCP_CLIENT=cursor-local VAULT_ADDR=https://vault.example.com:8200 \
#     vault agent -config=token-file.hcl

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
  # The Agent ends when Vault refuses it for good, so that its supervisor reports it.
  exit_on_retry_failure = true
}

template {
  source      = "/etc/mcp-client/token.ctmpl"
  destination = "/run/mcp-client/token"
  perms       = "0600"
}
