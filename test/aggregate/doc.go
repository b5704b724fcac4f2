// Package aggregate tests the differences between /mcp, the endpoint of all servers, and a
// server's own endpoint: names, lists, pages, changes, sessions, and servers that fail.
package aggregate
