package aggregate

import "vault-plugin-secrets-mcp/gateway/access"

func (x *exchange) listen() *access.Refusal { return x.unknownMethod() }

func (f *feed) listenTo(v *way) {}
