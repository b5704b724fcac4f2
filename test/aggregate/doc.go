// Package aggregate uses /mcp, the endpoint of all servers, where it differs from a
// server's own: names, lists, pages, changes, sessions, and servers that fail.
package aggregate
