// Package access stands before the MCP side of the gateway: it turns an HTTP
// request with a bearer token into a [Request] with a grant, or refuses it, and
// keeps the audit log.
//
// Its checks go from cheap to dear: the connections of its source, the request's
// form, the Host and Origin headers, the token's form, the grant (cache, else
// Vault), the source address, the server. All of that happens before the body is
// read, and before any upstream is touched.
//
// The client and the audit log get different texts: see [Refusal].
// Every bad token gets the same answer, and so does every server that the
// client may not reach, whether it exists or not.
package access
