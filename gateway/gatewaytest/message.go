package gatewaytest

import (
	"io"
	"net/http"
)

// Messages of clients, and an upstream's answers to them.
const (
	Ping       = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	Pong       = `{"jsonrpc":"2.0","id":1,"result":{}}`
	Initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
)

// Reply answers with a message in JSON.
func Reply(w http.ResponseWriter, message string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, message)
}

// Pongs answers every request alike.
func Pongs(w http.ResponseWriter, _ *http.Request) { Reply(w, Pong) }
