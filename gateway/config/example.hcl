# mcp-gateway's configuration. Settings that are commented out show their default.
# Check a file with: mcp-gateway -config FILE -check-config

vault {
  # The variables of Vault's own tools (VAULT_ADDR, VAULT_CACERT…) override these.
  address = "https://vault.example.com:8200" # or unix:///run/vault.sock
  # mount     = "mcp"             # where the secrets engine is mounted
  # namespace = ""

  # ca_cert_file     = ""         # default: the system's authorities
  # ca_cert_dir      = ""         # or a folder of such files
  # client_cert_file = ""         # if Vault's listener asks for a certificate
  # client_key_file  = ""
  # tls_server_name  = ""         # if Vault's certificate has another name
  # tls_skip_verify  = false      # accept any certificate: for experiments only

  # timeout           = "1m"      # of one request
  # max_retries       = 0         # immediate retries of a login
  # rate_limit        = 0         # requests a second; 0: no bound
  # rate_burst        = 0
  # srv_lookup        = false     # find Vault by its SRV record
  # disable_redirects = false
  # proxy_address     = ""        # default: HTTPS_PROXY, except for NO_PROXY

  # How the gateway logs in. It reads the files again at every login.
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

  # The name that clients use. The gateway refuses other names, so that no web page can
  # make its own name resolve to the gateway.
  public_url = "https://mcp.example.com"
  # allowed_hosts   = [] # further names
  # allowed_origins = [] # web origins whose pages may use the gateway: "https://app.example.com", "https://*.example.com"

  # Proxies whose X-Forwarded-For or PROXY protocol header the gateway believes.
  trusted_proxies = ["10.0.0.0/8"]
  # proxy_protocol  = false

  # HTTP/2 for clients that connect over TLS and choose it.
  # http2 = true

  # Go's own HTTP server instead of the gateway's, for one release: "net/http".
  # http1 = ""

  # After SIGTERM: how long the gateway still takes requests, until load balancers have
  # noticed, and how long requests in flight may then continue.
  # drain_delay   = "500ms"
  # drain_timeout = "30s"
}

# Health (/healthz, /readyz) and metrics (/metrics). No authentication.
admin {
  # address = "127.0.0.1:8081"
}

# The gateway's memory of Vault's answers about tokens.
grants {
  # max_stale         = "30s" # how long an answer is valid while the change feed is down
  # wait              = "5s"  # how long Vault holds the long poll for changes
  # negative_ttl      = "30s" # how long a "no" is remembered
  # max_entries       = 100000
  # cold_rate         = 500   # lookups of unknown tokens a second, from all sources
  # cold_burst        = 1000
  # cold_source_rate  = 20    # the same from one source
  # cold_source_burst = 100
}

# Opens sealed tokens (docs/kms.md). Without this block they are refused. Credentials come
# from the AWS SDK's default chain.
kms {
  audience = "https://mcp.example.com" # default: the mount's accessor
  # required  = false # accept only sealed tokens
  # refresh   = "5m"  # how often the gateway asks KMS for a data key again
  # max_stale = "1h"  # how long a data key is used while KMS does not answer
  # region    = ""    # default: the KMS key's own
  # endpoint  = ""    # URL of a private endpoint
}

# One JSON object a line. SIGHUP reopens the file.
audit {
  file = "/var/log/mcp-gateway/audit.log" # default: "stdout"

  # A second place for each line: RFC 5424 to a syslog server. Without the block, none.
  syslog {
    address     = "syslog.example.com:6514" # or "/dev/log"
    socket_type = "tls" # tcp, tls, unix, or unixgram, as /dev/log mostly is; default: tcp
    # facility         = "AUTH"
    # tag              = "mcp-gateway" # APP-NAME
    # required         = true # false: requests pass while the server does not take lines
    # max_queue        = "8MiB" # lines that wait for the server
    # ca_cert_file     = ""
    # client_cert_file = ""
    # client_key_file  = ""
    # tls_server_name  = "" # default: that of the address
  }
}

# Servers that are programs on the gateway's machine. Without this block none starts,
# whatever is registered.
stdio {
  allowed_commands = ["/usr/local/bin/mcp-files"]
  uid_range        = "70000-70127" # an account for each child, or user = "nobody" for all; default: the gateway's own
  # isolation               = "required" # "off": start children even where neither uid_range nor the kernel keeps them apart
  # home_dir                = "/var/lib/mcp-gateway/children" # default: in the state folder of the service, or the account
  # idle_timeout            = "10m"
  # stop_timeout            = "5s"
  # max_children            = 64
  # max_children_per_client = 8
}

# The allowed addresses of registered servers. Default: all except link-local and cloud
# metadata addresses, which are always refused.
upstream_allow = ["*.example.com", "10.20.0.0/16"]

# The HTTP proxy to registered servers. Default: none; HTTPS_PROXY has no effect on them.
upstream_proxy {
  url           = "http://proxy.example.com:3128" # or https
  username      = "mcp-gateway"                   # default: none
  password_file = "/etc/mcp-gateway/proxy_password"
  no_proxy      = [".example.com", "10.0.0.0/8"]  # reached directly
  # ca_cert_file = "" # of a proxy of https; default: the system's authorities
}

# Settings of one registered server.
upstream "github" {
  timeout = "60s" # the longest wait for the answer's headers, which a slow tool sends with its result; default: 5m
  # connect_timeout  = "5s"
  # ca_cert_file     = ""
  # client_cert_file = ""
  # client_key_file  = ""
  # max_concurrent   = 0 # no bound
  # credential_paths = ["database/creds/github-*"] # default: all that Vault's policies allow
  # proxy { url = "http://other.example.com:3128" } # instead of upstream_proxy
}

# Credentials of servers, leased from Vault for each client. Without this block, servers
# that are registered with credentials cannot be reached.
upstream_credentials {
  token_role = "mcp-upstream" # auth/token/roles/mcp-upstream
  policies   = ["mcp-upstream"]
  # alias_prefix          = "mcp"
  # token_ttl             = "10m" # a gateway that dies leaves its credentials alive for so long
  # idle_timeout          = "10m"
  # max_leases            = 10000
  # max_leases_per_client = 32
  # mint_rate             = 50 # child tokens a second
}

# People and machines get tokens by OAuth 2.1, with logins of Vault. Without this block there
# are no endpoints below /sign-in. Needs listener's public_url.
sign_in {
  # session_max          = "12h" # the longest life of a sign-in
  # person_policies      = ["default", "mcp-person*"] # the Vault policies that people's tokens may have
  # dynamic_registration = false # let applications register themselves
  redirect_schemes   = ["cursor"]                               # private schemes to which applications may redirect
  redirect_prefixes  = ["https://chatgpt.com/connector/oauth/"] # for hosts whose redirects differ
  metadata_documents = ["https://claude.ai/oauth/"]             # by which applications are known
  # redirect_hosts = [] # https hosts to which applications that have registered themselves may redirect

  login "employees" { # at least one login or machine
    mount = "oidc-mcp" # an oidc auth method of Vault
    role  = "mcp"
    title = "Example Inc." # default: the login's name
  }

  machine "ci" { # tokens for JWTs of somebody else
    # method   = "jwt" # or kubernetes
    mount      = "jwt-ci"
    role       = "mcp"
    issuer     = "https://token.example.com" # the iss of the JWTs
    single_use = true # default: false
    # profile  = "" # "id-jag" for an enterprise's IdP
  }

  application "intranet" { # the client_id
    name          = "Intranet"
    redirect_uris = ["https://intranet.example.com/oauth/callback"]
    secret_file   = "/etc/mcp-gateway/intranet_secret" # or jwks_file or jwks_uri; default: the application is public
    # jwks_file   = ""
    # jwks_uri    = ""
    # trusted     = false # people are not asked for their consent
  }
}

limits {
  # max_body               = "4MiB"
  # max_header             = "32KiB"
  # max_list               = "8MiB" # of an answer that must be filtered or changed
  # max_stream_age         = "1h"
  # keep_alive             = "15s"
  # per_client_concurrency = 256
  # max_buffered = "256MiB"           # bodies and buffered answers of all requests
  # max_buffered_per_client = "64MiB" # of one client
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
