variable "mount" {
  description = "Path of the engine's mount."
  type        = string
  default     = "mcp"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)*$", var.mount))
    error_message = "The mount is a path of small letters, digits, - and _, without a slash at its ends."
  }
}

variable "plugin" {
  description = "The engine's program, which must lie in the plugin_directory of every Vault server. Null: somebody else registers the plugin and mounts the engine."
  type = object({
    sha256  = string
    version = string
    command = optional(string, "vault-plugin-secrets-mcp")
  })
  default = null
}

variable "config" {
  description = "Configuration of the mount. A field that is null is left alone. Times are in seconds."
  type = object({
    default_ttl             = optional(number)
    max_ttl                 = optional(number)
    grace_period            = optional(number)
    min_custom_token_length = optional(number)
    max_wait                = optional(number)
    max_watchers            = optional(number)
    seal                    = optional(string)
    sign_in_logins          = optional(map(string))
    usage_days              = optional(number)
  })
  default  = {}
  nullable = false
}

variable "approle" {
  description = "The AppRole auth method with which gateways and Vault Agents log in, and whether the module enables it. Null: none, so there is no AppRole role and no policy mcp-client."
  type = object({
    path              = optional(string, "approle")
    enable            = optional(bool, true)
    token_bound_cidrs = optional(set(string), [])
  })
  default = {}
}

variable "kubernetes" {
  description = "The Kubernetes auth method, which exists, and the service account with which gateways log in at it. Null: no such role."
  type = object({
    path              = optional(string, "kubernetes")
    service_accounts  = optional(set(string), ["mcp-gateway"])
    namespaces        = optional(set(string), ["mcp"])
    audience          = optional(string, "vault")
    token_bound_cidrs = optional(set(string), [])
  })
  default = null
}

variable "acl_policies" {
  description = "The ACL policies of bootstrap/policies that are written beside mcp-gateway, which always is."
  type        = set(string)
  default     = ["mcp-admin", "mcp-client"]
  nullable    = false

  validation {
    condition     = length(setsubtract(var.acl_policies, ["mcp-admin", "mcp-approver", "mcp-auditor", "mcp-client", "mcp-gateway", "mcp-person", "mcp-registrar"])) == 0
    error_message = "Of the ACL policies the module writes mcp-admin, mcp-approver, mcp-auditor, mcp-client, mcp-gateway, mcp-person and mcp-registrar."
  }
}

variable "servers" {
  description = "MCP servers by name. The fields are those of servers/NAME. disabled, pin and pin_kinds are left alone where they are null."
  type = map(object({
    transport      = string
    url            = optional(string)
    command        = optional(string)
    args           = optional(list(string), [])
    shared         = optional(bool, false)
    description    = optional(string)
    vault_policies = optional(list(string), [])
    disabled       = optional(bool)
    pin            = optional(string)
    pin_kinds      = optional(list(string))
    headers        = optional(map(string), {})
    env            = optional(map(string), {})
    files          = optional(map(string), {})
    credentials = optional(map(object({
      path    = string
      method  = optional(string)
      data    = optional(map(string))
      refresh = optional(number)
    })), {})
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for server in values(var.servers) : contains(["http", "sse", "stdio"], server.transport)])
    error_message = "The transport of a server is http, sse or stdio."
  }
}

variable "policies" {
  description = "Policies by name: settings is the JSON of Claude Code's managed settings; whatever is not about MCP servers in it is left out. managed: the policy applies to every client."
  type = map(object({
    settings = string
    managed  = optional(bool, false)
  }))
  default  = {}
  nullable = false
}

variable "roles" {
  description = "Roles of clients by name. The fields are those of roles/NAME."
  type = map(object({
    allowed_servers   = optional(set(string), [])
    allowed_tools     = optional(set(string))
    denied_tools      = optional(set(string), [])
    allowed_prompts   = optional(set(string))
    denied_prompts    = optional(set(string), [])
    allowed_resources = optional(set(string))
    denied_resources  = optional(set(string), [])
    rate_limit        = optional(number, 0)
    rate_burst        = optional(number, 0)
  }))
  default  = {}
  nullable = false
}

variable "clients" {
  description = "Clients by name. The fields are those of clients/NAME; times are in seconds. seal and disabled are left alone where they are null."
  type = map(object({
    role              = optional(string)
    allowed_servers   = optional(set(string), [])
    allowed_tools     = optional(set(string))
    denied_tools      = optional(set(string), [])
    allowed_prompts   = optional(set(string))
    denied_prompts    = optional(set(string), [])
    allowed_resources = optional(set(string))
    denied_resources  = optional(set(string), [])
    rate_limit        = optional(number, 0)
    rate_burst        = optional(number, 0)
    policies          = optional(set(string), [])
    token_ttl         = optional(number, 0)
    token_max_ttl     = optional(number, 0)
    token_bound_cidrs = optional(set(string), [])
    metadata          = optional(map(string), {})
    upstream_policies = optional(set(string))
    sign_in           = optional(bool, false)
    seal              = optional(string)
    disabled          = optional(bool)
  }))
  default  = {}
  nullable = false
}

variable "keep_tokens_in_state" {
  description = "WARNING: true writes the token of each new client into Terraform's state, in clear, for everybody who may read the state. False, the default: nobody keeps the token of a new client; issue one with `vault write -f mcp/rotate-client/NAME`."
  type        = bool
  default     = false
  nullable    = false
}
