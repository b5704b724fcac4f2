# Gateways in Kubernetes, which log in with their service account. The engine is mounted already, the
# Kubernetes auth method is enabled and configured.

terraform {
  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = ">= 5.0"
    }
  }
}

provider "vault" {
  skip_child_token = true
}

module "mcp" {
  source = "../.."

  approle      = null
  kubernetes   = { namespaces = ["mcp"] }
  acl_policies = ["mcp-auditor"]

  servers = {
    calculator = {
      transport = "http"
      url       = "https://calculator.example.com/mcp"
    }
  }

  clients = {
    cursor-local = { allowed_servers = ["calculator"] }
  }
}
