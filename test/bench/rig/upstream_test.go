package main

import (
	"strings"
	"testing"
)

func TestAnIDIsFoundWhereverClientsWriteIt(t *testing.T) {
	long := `"params":{"name":"echo","arguments":{"text":"` + strings.Repeat("x", 2*beginning) + `"}}`
	for name, of := range map[string]struct{ body, id string }{
		"at the beginning":             {`{"jsonrpc":"2.0","id":7,"method":"tools/call",` + long + `}`, `7`},
		"at the end":                   {`{"method":"tools/call",` + long + `,"jsonrpc":"2.0","id":7}`, `7`},
		"as a string":                  {`{"method":"tools/call",` + long + `,"jsonrpc":"2.0","id":"a-7"}`, `"a-7"`},
		"at the end of a short one":    {`{"method":"ping","id":7}`, `7`},
		"not at all in a notification": {`{"jsonrpc":"2.0","method":"notifications/x",` + long + `}`, ``},
	} {
		if id := string(idOf([]byte(of.body))); id != of.id {
			t.Errorf("%s: %q, not %q", name, id, of.id)
		}
	}
}
