# Everything of one Vault: the plugin, its mount, the ACL policies, the gateway's login, servers,
# policies, roles and clients.

terraform {
  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = ">= 5.0"
    }
  }
}

# VAULT_ADDR and VAULT_TOKEN, or another login of the provider.
provider "vault" {
  skip_child_token = true # otherwise its token needs auth/token/create, too
}

variable "plugin_sha256" {
  description = "SHA-256 of the plugin's program, from vault-plugin-secrets-mcp.sha256 of the package."
  type        = string
}

variable "plugin_version" {
  description = "The program's answer to -version."
  type        = string
}

variable "github_token" {
  description = "A credential of the server github. It is in the state, in clear."
  type        = string
  sensitive   = true
}

module "mcp" {
  source = "../.."

  plugin = {
    sha256  = var.plugin_sha256
    version = var.plugin_version
  }

  config = {
    default_ttl  = 2592000 # 30 days
    grace_period = 3600
  }

  servers = {
    calculator = {
      transport = "http"
      url       = "https://calculator.example.com/mcp"
    }
    github = {
      transport   = "http"
      url         = "https://api.githubcopilot.com/mcp/"
      description = "Issues and code"
      headers     = { Authorization = "Bearer ${var.github_token}" }
    }
    files = {
      transport = "stdio"
      command   = "/usr/local/bin/files-server"
      args      = ["--root", "/srv/data"]
    }
  }

  policies = {
    corp = {
      settings = file("${path.module}/managed-settings.json")
      managed  = true
    }
  }

  roles = {
    engineer = {
      allowed_servers = ["calculator", "github"]
      denied_tools    = ["github/delete_*"]
      rate_limit      = 2.5
    }
  }

  clients = {
    cursor-local = {
      role      = "engineer"
      token_ttl = 900
      metadata  = { team = "search" }
    }
    agent-ci = {
      allowed_servers   = ["files"]
      allowed_tools     = ["files/read_*"]
      token_bound_cidrs = ["10.0.0.0/8"]
    }
  }
}

output "gateway_role_id" {
  value = module.mcp.gateway_role_id
}
