// Package conformance runs the official MCP conformance suite, as it comes from
// npm, against a server directly and through the gateway, and compares the two
// check by check: through the gateway a server must be neither better nor worse.
//
// The server is the official Go SDK's conformance fixture, over HTTP in both of
// the protocol's eras, and on stdio. It is part of `make test`, and is run alone by
//
//	make test-conformance
//
// What the suite of a child on stdio cannot show is listed, with the reason, in
// the test.
package conformance
