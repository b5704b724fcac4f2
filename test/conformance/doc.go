// Package conformance runs the official MCP conformance suite from npm against a server,
// directly and through the gateway, and compares each check. Through the gateway a server
// must be neither better nor worse.
//
// The server is the official Go SDK's conformance fixture, over HTTP in both of the
// protocol's eras, on stdio, and as one of the many servers at /mcp, where a proxy removes
// the server's name from the names of its tools. It is part of `make test`, and runs alone
// with
//
//	make test-conformance
//
// The test lists each check that ends differently on stdio or at /mcp, with the reason. It
// fails if one of them does not differ any more.
//
// The suite's scenarios for authorization servers run against sign-in, where each of them
// succeeds. Its other scenarios about authorization are for clients.
package conformance
