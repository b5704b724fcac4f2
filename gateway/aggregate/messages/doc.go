// Package messages reads and writes what messages of /mcp say: who has sent a request, what a server
// has and says of itself, what a client can be asked, which notifications it wants, and what one era
// of the protocol needs in a message that the other does not know. It is pure: it keeps nothing, and
// speaks to nobody.
package messages
