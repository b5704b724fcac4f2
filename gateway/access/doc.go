// Package access is the middleware before the MCP side of the gateway. It turns an HTTP
// request with a bearer token into a [Request] with a grant, or refuses it, and writes the
// audit log.
//
// Cheap checks come first: the connections of its source, the request's form, the Host and
// Origin headers, the token's form, the grant (from the cache, otherwise from Vault), the
// source address, the server. All of them come before the gateway reads the body or
// contacts an upstream.
//
// The client and the audit log get different texts: see [Refusal]. Every bad token gets the
// same answer. So does every server that the client may not reach, whether it exists or not.
package access
