# Vault Agent runs a program with the token in its environment. For jobs in CI, and for
# programs that take the token from nowhere else.
#
#   MCP_CLIENT=agent-ci VAULT_ADDR=https://vault.example.com:8200 \
#     vault agent -config=exec.hcl

auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "/etc/mcp-client/role_id"
      secret_id_file_path                 = "/etc/mcp-client/secret_id"
      # For one run: the file has a wrapping token, which can be unwrapped once, and the
      # Agent removes the file. The path has the role's name. Each run needs a new file.
      secret_id_response_wrapping_path    = "auth/approle/role/agent-ci/secret-id"
      remove_secret_id_file_after_reading = true
    }
  }
}

template_config {
  exit_on_retry_failure = true
}

env_template "MCP_TOKEN" {
  contents             = "{{ with secret (printf \"mcp/creds/%s\" (env \"MCP_CLIENT\")) }}{{ .Data.token }}{{ end }}"
  error_on_missing_key = true
}

exec {
  command = ["/usr/local/bin/the-job"]
  # A running process cannot get another environment. So give the client a
  # token_max_ttl longer than the job: the Agent renews the one token until then.
  # With "always" the Agent would restart the program for each new token.
  restart_on_secret_changes = "never"
  restart_stop_signal       = "SIGTERM"
}
