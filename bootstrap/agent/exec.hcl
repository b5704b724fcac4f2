# Vault Agent runs a program with the token in its environment: for jobs in CI,
# and for programs that take it from nowhere else.
#
#   MCP_CLIENT=agent-ci VAULT_ADDR=https://vault.example.com:8200 \
#     vault agent -config=exec.hcl

auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "/etc/mcp-client/role_id"
      secret_id_file_path                 = "/etc/mcp-client/secret_id"
      # For one run: what lies in the file is wrapped, opens once, and is removed. The
      # role's name stands in the path. A job that is run again gets another one.
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
  # A process cannot be handed another environment. So give the client a
  # token_max_ttl longer than the job: the Agent renews the one token until then.
  # With "always" the program would be restarted for each new token.
  restart_on_secret_changes = "never"
  restart_stop_signal       = "SIGTERM"
}
