package rewrite

import (
	"bytes"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// source is what a page was read from: with the server's name, all that decides what is in the page.
type source struct {
	message           []byte
	id                jsonscan.Span
	kind              Kind
	pinned, emptyEnds bool
}

// Again reports whether the answer to the request of that id would make the same page as one that
// was read before: it differs from that one's in the id alone. A nil page is that of no answer.
func (r Reading) Again(p *Page, message, id []byte) bool {
	if p == nil || p.Server != r.Server || p.source.kind != r.Kind || p.source.pinned != (r.Digest != nil) ||
		p.source.emptyEnds != r.EmptyEnds || p.source.id.None() {
		return false
	}
	before, behind := p.source.message[:p.source.id.Start], p.source.message[p.source.id.End:]
	rest, begins := bytes.CutPrefix(message, before)
	rest, ends := bytes.CutSuffix(rest, behind)
	return begins && ends && bytes.Equal(rest, id)
}
