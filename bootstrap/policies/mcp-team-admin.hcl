# An example of delegation: one team's administrator manages the clients whose
# names begin with team-a-, and hands them these two servers at most. Copy it,
# and put the team's prefix and its servers in.
#
# A central administrator creates the clients, and may restrict each of them: by
# policies, by disabled, by token_bound_cidrs. The team cannot lift that:
#
# - It cannot write those fields.
# - It cannot delete, for a client created anew would be free of all three.
# - It cannot create, for a second client beside the first would be as free. A team
#   that may create clients is restricted by managed policies alone, which apply to
#   every client, and not by settings of one client.
#
# Every client of the team counts: one that is left unrestricted can be given both
# servers.
#
# Vault compares a parameter as it is sent: "a,b" is not a list to it but one
# text, and ["a","b"] one value. So every combination that may be sent stands
# here, and no entry has a *, which would match commas too.

path "mcp/clients/team-a-*" {
  capabilities = ["read", "update"]
  allowed_parameters = {
    "allowed_servers" = [
      "", "calculator", "time", "calculator,time", "time,calculator",
      [], ["calculator"], ["time"], ["calculator", "time"], ["time", "calculator"],
    ]
    "allowed_tools"     = []
    "denied_tools"      = []
    "allowed_prompts"   = []
    "denied_prompts"    = []
    "allowed_resources" = []
    "denied_resources"  = []
    "token_ttl"         = []
    "metadata"          = []
  }
}

# New tokens, made by the engine. Without this list a team could bring tokens of its
# own (access_token), also such as were revoked (allow_reuse), and find out by trying
# which tokens others have.
path "mcp/rotate-client/team-a-*" {
  capabilities = ["update"]
  allowed_parameters = {
    "grace_period" = []
    "rotation_id"  = []
  }
}

path "mcp/revoke-client/team-a-*" {
  capabilities = ["update"]
}

path "mcp/creds/team-a-*" {
  capabilities = ["read"]
}
