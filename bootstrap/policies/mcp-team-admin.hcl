# An example of delegation: one team's administrator manages the clients whose
# names begin with team-a-, and hands them these two servers at most. Copy it,
# and put the team's prefix and its servers in.
#
# Vault compares a parameter as it is sent: "a,b" is not a list to it but one
# text, and ["a","b"] one value. So every combination that may be sent stands
# here, and no entry has a *, which would match commas too.

path "mcp/clients/team-a-*" {
  capabilities = ["create", "read", "update"]
  allowed_parameters = {
    "allowed_servers" = [
      "", "calculator", "time", "calculator,time", "time,calculator",
      [], ["calculator"], ["time"], ["calculator", "time"], ["time", "calculator"],
    ]
    "allowed_tools"     = []
    "denied_tools"      = []
    "token_ttl"         = []
    "token_bound_cidrs" = []
    "metadata"          = []
  }
}

# Not among them: policies and disabled, with which a central administrator
# restricts a client. For the same reason a team cannot delete: a client created
# anew would be free of both. It can revoke.

path "mcp/rotate-client/team-a-*" {
  capabilities = ["update"]
}

path "mcp/revoke-client/team-a-*" {
  capabilities = ["update"]
}

path "mcp/creds/team-a-*" {
  capabilities = ["read"]
}
