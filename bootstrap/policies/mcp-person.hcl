# What the Vault token of a person may do who has signed in: keep itself alive and end itself,
# say for which clients it may get tokens, be wrapped into a code, and keep the generations of
# its refresh tokens in its own cubbyhole. Nothing of Vault's identities.
#
# As which clients somebody may act is in policies of their own, mcp-person-NAME, which groups
# of the login give: see PersonClient. A role that carries this policy may set
# token_no_default_policy: nothing of Vault's default policy is needed.

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
