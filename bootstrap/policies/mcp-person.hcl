# The rights of the Vault token of a person who has signed in: keep itself alive and end
# itself, see the clients for which it may get tokens, be wrapped into a code, and keep the
# generations of its refresh tokens in its own cubbyhole. It has no right on Vault's
# identities.
#
# The right to act as a client is in a policy of its own, mcp-person-NAME, which groups of the
# login give: see PersonClient. A role with this policy may set token_no_default_policy, since
# people need nothing of Vault's default policy.

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}

path "sys/capabilities-self" {
  capabilities = ["update"]
}

path "sys/wrapping/wrap" {
  capabilities = ["update"]
}

path "cubbyhole/mcp-sign-in/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}
