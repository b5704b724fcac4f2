//go:build !unix

package mcp

// canTellIdle: quiet cannot answer here, and connections are http.Transport's.
const canTellIdle = false

func (*directConn) quiet() bool { return false }
