// Package isolation holds the tests of what servers that are child processes of a
// gateway can get hold of: nothing of the gateway's, and nothing of each other's.
package isolation
