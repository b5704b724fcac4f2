package pins

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/test/harness"
)

// definition is a server's description of one thing.
type definition struct {
	kind pin.Kind
	name string
	// text is how the server writes it.
	text string
	// canonical is its digested part in the form of RFC 8785, written by hand: a test that
	// called the project's own code would believe its mistakes. "": it is the text.
	canonical string
}

// digest is that of the definition.
func (d *definition) digest() string {
	text := d.canonical
	if text == "" {
		text = d.text
	}
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// approval is the definition as in a write of approvals.
func (d *definition) approval() harness.Map {
	return harness.Map{"kind": string(d.kind), "name": d.name, "digest": d.digest()}
}

// Names and URIs of the server's items.
const (
	toolName    = "search"
	promptName  = "review"
	resourceURI = "notes://all"
	templateURI = "notes://days/{day}"
	expansion   = "notes://days/monday" // of the template
	pageURI     = "ui://board"
)

// definitionOf is the server's definition of its one thing of the kind, with a mark that a test
// finds wherever the definition is. The members of none are in the canonical order.
func definitionOf(kind pin.Kind, mark string) *definition {
	d := &definition{kind: kind}
	switch kind {
	case pin.Tool:
		d.name = toolName
		d.text = fmt.Sprintf(`{"name":"search", "description":%q,"inputSchema":{"type":"object","maxProperties":1.0}}`, mark)
		d.canonical = fmt.Sprintf(`{"description":%q,"inputSchema":{"maxProperties":1,"type":"object"},"name":"search"}`, mark)
	case pin.Prompt:
		d.name = promptName
		d.text = fmt.Sprintf(`{"name":"\u0072eview","description":%q}`, mark)
		d.canonical = fmt.Sprintf(`{"description":%q,"name":"review"}`, mark)
	case pin.Resource:
		d.name = resourceURI
		d.text = fmt.Sprintf(`{"uri":%q,"name":"notes","description":%q,"size":7,"annotations":{"priority":1,"lastModified":"2026-11-30T12:00:00Z"}}`, resourceURI, mark)
		d.canonical = fmt.Sprintf(`{"annotations":{"priority":1},"description":%q,"name":"notes","uri":%q}`, mark, resourceURI)
	case pin.Template:
		d.name = templateURI
		d.text = fmt.Sprintf(`{"uriTemplate":%q,"name":"days","description":%q}`, templateURI, mark)
		d.canonical = fmt.Sprintf(`{"description":%q,"name":"days","uriTemplate":%q}`, mark, templateURI)
	case pin.Instructions:
		d.text = fmt.Sprintf("%q", mark)
	case pin.Server:
		d.text = fmt.Sprintf(`{"version":"1.2.3","name":"hostile","title":%q}`, mark)
		d.canonical = fmt.Sprintf(`{"name":"hostile","title":%q}`, mark)
	case pin.Page:
		d.name = pageURI
		d.text = fmt.Sprintf(`{"uri":%q,"mimeType":"text/html;profile=mcp-app","text":"<p>%s</p>"}`, pageURI, mark)
		d.canonical = fmt.Sprintf(`{"mimeType":"text/html;profile=mcp-app","text":"<p>%s</p>","uri":%q}`, mark, pageURI)
	}
	return d
}

// all has the definitions of every kind, with one mark.
func all(mark string) []*definition {
	var definitions []*definition
	for _, kind := range pin.Kinds() {
		definitions = append(definitions, definitionOf(kind, mark))
	}
	return definitions
}

// saying is a server that says all of that.
func saying(definitions []*definition) *says {
	a := &says{lists: map[pin.Kind][][]string{}, pages: map[string]string{}}
	for _, d := range definitions {
		switch d.kind {
		case pin.Instructions:
			a.instructions = d.text
		case pin.Server:
			a.server = d.text
		case pin.Page:
			a.pages[d.name] = d.text
		default:
			a.lists[d.kind] = [][]string{{d.text}}
		}
	}
	return a
}
