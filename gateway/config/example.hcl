# mcp-gateway's configuration. What is commented out shows the default.
# Check a file with: mcp-gateway -config FILE -check-config

vault {
  # The variables of Vault's own tools (VAULT_ADDR, VAULT_CACERT…) override these.
  address = "https://vault.example.com:8200" # or unix:///run/vault.sock
  # mount     = "mcp"             # where the secrets engine is mounted
  # namespace = ""

  # ca_cert_file     = ""         # default: the system's authorities
  # ca_cert_dir      = ""         # or a folder of such files
  # client_cert_file = ""         # where Vault's listener asks for a certificate
  # client_key_file  = ""
  # tls_server_name  = ""         # where Vault's certificate has another name
  # tls_skip_verify  = false      # take any certificate: to try something

  # timeout           = "1m"      # of one request
  # max_retries       = 0         # of a login, at once
  # rate_limit        = 0         # requests a second; 0: no bound
  # rate_burst        = 0
  # srv_lookup        = false     # find Vault by its SRV record
  # disable_redirects = false
  # proxy_address     = ""        # default: that of HTTPS_PROXY, but for NO_PROXY

  # How the gateway logs in. Files are read anew at every login.
  auth "approle" {
    # mount           = "approle"
    role_id_file      = "/etc/mcp-gateway/role_id" # or role_id = "…"
    secret_id_file    = "/etc/mcp-gateway/secret_id"
    # secret_id_wrapped = false # the file holds a response-wrapping token
  }
  # auth "kubernetes" { role = "mcp-gateway" }
  # auth "jwt"        { role = "mcp-gateway"  jwt_file = "/var/run/identity/jwt" }
  # auth "token_file" { path = "/run/vault-agent/token" } # which a Vault Agent renews
}

# Where MCP clients connect, with http(s)://ADDRESS/servers/NAME/mcp.
listener {
  address = "0.0.0.0:8443" # MCP_GATEWAY_LISTEN overrides it; default: 127.0.0.1:8080

  # Without a certificate the listener speaks plain HTTP. SIGHUP reads it again.
  tls_cert_file = "/etc/mcp-gateway/tls.crt"
  tls_key_file  = "/etc/mcp-gateway/tls.key"
  # tls_client_ca_file = "" # clients then need a certificate besides their token

  # The name that clients use. Requests for other names are refused, so that no
  # web page can have its own name resolve to the gateway.
  public_url = "https://mcp.example.com"
  # allowed_hosts   = [] # further names
  # allowed_origins = [] # web origins whose pages may use the gateway: "https://app.example.com", "https://*.example.com"

  # Proxies whose X-Forwarded-For is believed, or PROXY protocol header.
  trusted_proxies = ["10.0.0.0/8"]
  # proxy_protocol  = false

  # After SIGTERM: how long requests are still taken while load balancers look
  # elsewhere, and how long those in flight may then go on.
  # drain_delay   = "500ms"
  # drain_timeout = "30s"
}

# Health (/healthz, /readyz) and metrics (/metrics). No authentication.
admin {
  # address = "127.0.0.1:8081"
}

# What is remembered of Vault's answers about tokens.
grants {
  # max_stale         = "30s" # how long an answer is good while changes cannot be followed
  # wait              = "5s"  # how long Vault holds a request for changes
  # negative_ttl      = "30s" # how long a "no" is remembered
  # max_entries       = 100000
  # cold_rate         = 500   # lookups of unknown tokens a second, from all sources
  # cold_burst        = 1000
  # cold_source_rate  = 20    # the same from one source
  # cold_source_burst = 100
}

# Opens sealed tokens (docs/kms.md). Without this block they are refused. The AWS
# SDK's default chain finds the credentials.
kms {
  audience = "https://mcp.example.com" # default: the mount's accessor
  # required  = false # accept sealed tokens alone
  # refresh   = "5m"  # how often KMS is asked for a data key again
  # max_stale = "1h"  # how long a data key is used while KMS does not answer
  # region    = ""    # default: the KMS key's own
  # endpoint  = ""    # URL of a private endpoint
}

# One JSON object a line. SIGHUP opens the file anew.
audit {
  file = "/var/log/mcp-gateway/audit.log" # default: "stdout"
}

# Servers that are programs on the gateway's machine. Without this block there
# are none, whatever is registered.
stdio {
  allowed_commands = ["/usr/local/bin/mcp-files"]
  uid_range        = "70000-70063" # an account for each child, or user = "nobody" for all; default: the gateway's own
  # isolation               = "required" # "off": where neither uid_range nor the kernel keeps children apart, start them all the same
  # home_dir                = "/var/lib/mcp-gateway/children" # default: in the state folder of the service, or the account
  # idle_timeout            = "10m"
  # stop_timeout            = "5s"
  # max_children            = 64
  # max_children_per_client = 8
}

# Where registered servers may be. Default: anywhere but link-local and cloud
# metadata addresses, which are always refused.
upstream_allow = ["*.example.com", "10.20.0.0/16"]

# What concerns one registered server.
upstream "github" {
  timeout = "60s" # until the answer's headers, which come with the result where a tool is slow; default: 5m
  # connect_timeout  = "5s"
  # ca_cert_file     = ""
  # client_cert_file = ""
  # client_key_file  = ""
  # max_concurrent   = 0 # no bound
}

limits {
  # max_body               = "4MiB"
  # max_header             = "32KiB"
  # max_list               = "8MiB" # of a list that must be filtered
  # max_stream_age         = "1h"
  # keep_alive             = "15s"
  # per_client_concurrency = 256
  # max_buffered = "256MiB"           # bodies and buffered answers of all requests
  # max_buffered_per_client = "64MiB" # of one client's
  # max_connections_per_source = 1024 # trusted_proxies are not bounded
}

# /mcp, where all servers are one.
aggregate {
  # list_wait       = "2s"  # for a list's slowest server
  # first_list_wait = "50s" # for the first server, while the list would be empty
}

# The gateway's own log, on standard error.
log {
  # level  = "info" # trace, debug, info, warn, error; -log-level overrides it
  # format = "json" # or text
}
