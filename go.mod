module vault-plugin-secrets-mcp

go 1.26
