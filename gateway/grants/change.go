package grants

// Change is one entry of the engine's change feed, in its wire form.
type Change struct {
	Index     uint64 `json:"index"`
	Type      string `json:"type"`
	Operation string `json:"operation"`
	Client    string `json:"client"`
	ClientID  string `json:"client_id"`
	Accessor  string `json:"accessor"`
	Name      string `json:"name"`
}

// Changes is one answer of the feed.
type Changes struct {
	Epoch   string   `json:"epoch"`
	Index   uint64   `json:"index"` // the last change in the answer, or the head
	Reset   bool     `json:"reset"` // what happened up to Index cannot be told
	Changes []Change `json:"changes"`
}

// Types and operations of changes.
const (
	typeToken  = "token"
	typeClient = "client"
	typePolicy = "policy"
	typeServer = "server"
	typeConfig = "config"
	typeMount  = "mount"

	nameKeys = "keys" // of a change of config that concerns the session keys alone

	operationCreate = "create"
	operationUpdate = "update"
	operationRevoke = "revoke"
	operationDelete = "delete"
)

// scope is what a change touches.
type scope int

const (
	scopeEverything scope = iota
	scopeToken
	scopeClient
	scopeServers
	scopeKeys
)

// scope of a change. One that is not understood, since the engine may be newer
// than the gateway, touches everything.
func (c *Change) scope() scope {
	switch {
	case c.Type == typeToken && c.Accessor != "":
		return scopeToken
	case c.Type == typeClient && c.ClientID != "":
		return scopeClient
	case c.Type == typeServer:
		return scopeServers
	case c.Type == typeConfig && c.Name == nameKeys:
		return scopeKeys
	}
	return scopeEverything
}

// ends reports whether the change ends what it touches, rather than altering it.
func (c *Change) ends() bool {
	if c.Type == typePolicy || c.Type == typeConfig {
		return false
	}
	return c.Operation == operationRevoke || c.Operation == operationDelete
}

// admits reports whether a token that was not active may be so after the
// change: a custom token was created, or a client enabled. Only what takes
// access away for certain does not.
func (c *Change) admits() bool {
	switch c.Type {
	case typeToken, typeClient:
		return !c.ends()
	case typeServer, typePolicy:
		return false
	}
	return true
}
