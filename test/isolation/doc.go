// Package isolation tests that child processes of a gateway can reach nothing of the
// gateway, and nothing of each other.
package isolation
