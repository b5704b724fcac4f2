# For a person who registers MCP servers and may not approve their definitions: each write of a
# server has pin=enforce, so clients see only definitions that a holder of mcp-approver has
# approved. A server that leads elsewhere, or is deleted and registered again, has nothing
# approved, and no kinds left out.
#
# pin_kinds is denied, since it could leave out the tools. There is no "read": Vault wants the
# required parameter of a read, too. `vault list -detailed` shows the servers. The worth of the
# right to write servers, besides that, stands in docs/threat-model.md.

path "mcp/servers/*" {
  capabilities = ["create", "update", "delete", "list"]
  required_parameters = ["pin"]
  allowed_parameters = {
    "pin" = ["enforce"]
    "*"   = []
  }
  denied_parameters = {
    "pin_kinds" = []
  }
}
