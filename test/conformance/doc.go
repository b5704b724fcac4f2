// Package conformance runs the official MCP conformance suite, as it comes from
// npm, against a server directly and through the gateway, and compares the two
// check by check: through the gateway a server must be neither better nor worse.
//
// The server is the official Go SDK's conformance fixture, over HTTP in both of
// the protocol's eras, on stdio, and as one of the many servers at /mcp, where a
// proxy between takes the server's name away from those of its tools. It is part of
// `make test`, and is run alone by
//
//	make test-conformance
//
// Each check that ends otherwise on stdio or at /mcp is listed, with the reason, in
// the test, which fails where one does not any more.
package conformance
