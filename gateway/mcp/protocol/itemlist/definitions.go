package itemlist

import (
	"bytes"
	"strings"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
)

// Definitions judges the definitions of a server.
type Definitions interface {
	// Pins reports whether definitions of the kind are judged.
	Pins(kind pin.Kind) bool
	// Approved reports whether somebody has approved a definition: a text as the server wrote
	// it, valid until Approved returns.
	Approved(kind pin.Kind, text []byte) bool
	// Admits reports whether clients may use the item of that name: of a resource, its URI.
	Admits(kind pin.Kind, name string) bool
}

// Observe has the definitions in a server's message judged, and returns how many of them nobody
// has approved. It changes nothing, and takes any message for one without definitions if it is
// not valid. asked is [Filter.Asked].
func Observe(message []byte, definitions Definitions, asked Asked) (unapproved int) {
	r, err := newRun(message)
	if err != nil {
		return 0
	}
	r.filter = &Filter{Definitions: definitions, Asked: asked}
	r.guardLists()
	r.guardDefinitions()
	_, _ = r.read()
	return r.unapproved
}

func (r *run) pins(kind pin.Kind) bool {
	return r.filter.Definitions != nil && r.filter.Definitions.Pins(kind)
}

// approved judges one definition.
func (r *run) approved(kind pin.Kind, text []byte) bool {
	if r.filter.Definitions.Approved(kind, text) {
		return true
	}
	r.unapproved++
	return false
}

// guardDefinitions has those definitions judged that do not stand in the lists of a kind.
func (r *run) guardDefinitions() {
	if r.pins(pin.Instructions) {
		r.guard("instructions", r.instructions)
	}
	if r.pins(pin.Server) {
		r.guard("serverInfo", r.serverInfo)
		r.guard("_meta", func() error {
			return r.MembersIfAny(metaKeys, func(int) error { return r.serverInfo() })
		})
	}
	if r.pins(pin.Page) {
		r.guard("contents", func() error { return r.list(r.content) })
	}
}

// metaKeys are those of a result's _meta: since 2026-07-28, each result may name its server.
var metaKeys = []string{protocol.MetaServerInfo}

// instructions reads those of a server, and cuts them with their key.
func (r *run) instructions() error {
	r.judged = true
	at, err := r.Value()
	if err == nil && !r.approved(pin.Instructions, at.Of(r.message)) {
		r.edits = append(r.edits, jsonscan.Part{Span: memberAround(r.message, at)})
	}
	return err
}

// memberAround returns the place of the member with that value: with its key, and with one of
// the commas beside it. The message may end behind the value: it is not valid then.
func memberAround(message []byte, value jsonscan.Span) jsonscan.Span {
	const space = " \t\r\n"
	before := bytes.TrimRight(message[:value.Start], space)
	before = bytes.TrimRight(before[:len(before)-len(`:`)], space)
	// A key with a quote in it is none of those that are guarded.
	before = before[:bytes.LastIndexByte(before[:len(before)-len(`"`)], '"')]
	behind := bytes.TrimLeft(message[value.End:], space)
	at := jsonscan.Span{Start: len(before), End: value.End}
	if bytes.HasPrefix(behind, []byte(`,`)) {
		at.End = len(message) - len(behind) + len(`,`)
	} else if before = bytes.TrimRight(before, space); bytes.HasSuffix(before, []byte(`,`)) {
		at.Start = len(before) - len(`,`)
	}
	return at
}

// serverInfo reads the name by which a server calls itself. Where nobody has approved that, the
// gateway says how the server is registered.
func (r *run) serverInfo() error {
	at, err := r.Value()
	if err != nil {
		return err
	}
	if !r.approved(pin.Server, at.Of(r.message)) {
		r.replace(at, string(protocol.Implementation(r.filter.Server, noVersion)))
		return nil
	}
	return r.version(at)
}

// noVersion stands for a version that is not plain.
const noVersion = "0"

var versionKeys = []string{"version"}

// version reads the version of an approved serverInfo, which is not in the digest: it must be
// too plain to tell a model anything.
func (r *run) version(info jsonscan.Span) error {
	of := r.At(info)
	var version jsonscan.Span
	certain, err := of.MembersAnyway(versionKeys, func(int) (err error) {
		version, err = of.Value()
		return err
	})
	if err != nil {
		return err
	}
	if !certain {
		r.replace(info, string(protocol.Implementation(r.filter.Server, noVersion)))
		return nil
	}
	if text, ok := jsonscan.Text(version.Of(r.message)); !version.None() && !(ok && pin.PlainVersion(text)) {
		r.replace(version, `"`+noVersion+`"`)
	}
	return nil
}

// Asked says of what a message with contents is the answer.
type Asked int

// What a client may have asked for.
const (
	AskedAnything Asked = iota // it is not known: any answer may come on such a stream
	AskedOther                 // a resource that is no page
	AskedPage                  // a page of an app
)

var contentKeys = []string{"uri", "mimeType"}

// pageProfile is in the media type of pages of apps.
const pageProfile = "mcp-app"

// content reads an entry of contents, which the result of a resources/read has, and reports
// whether the client may have it. Everything that an application could take for a page is judged
// as one: by its URI, by its media type, or since a page was asked for.
func (r *run) content() (keep bool, err error) {
	page, start := r.filter.Asked == AskedPage, r.Pos()
	if r.Peek() == '{' {
		certain, err := r.MembersAnyway(contentKeys, func(key int) error {
			at, err := r.Value()
			if err == nil && !page {
				page = r.isOfPage(contentKeys[key], at.Of(r.message))
			}
			return err
		})
		if err != nil {
			return false, err
		}
		page = page || !certain
	} else if err := r.Skip(); err != nil {
		return false, err
	}
	if !page {
		return true, nil
	}
	r.judged = true
	return r.approved(pin.Page, r.message[start:r.Pos()]), nil
}

// isOfPage reports whether a member of an entry may be one of a page: of any HTML where it is not
// known whether the client has asked for a page.
func (r *run) isOfPage(key string, raw []byte) bool {
	text, ok := jsonscan.Text(raw)
	text = strings.ToLower(strings.TrimSpace(text))
	if key == "uri" {
		return !ok || strings.HasPrefix(text, names.UIScheme)
	}
	return !ok || strings.Contains(text, pageProfile) || r.filter.Asked == AskedAnything && strings.Contains(text, "html")
}
