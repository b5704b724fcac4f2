package backend

import (
	"fmt"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"
)

// maxIssuerName bounds each stored name of an issuer, in bytes: the names are in memory with
// every token.
const maxIssuerName = 128

// issuer identifies who asked for a token, as Vault knows them.
type issuer struct {
	IssuedBy       string `json:"issued_by,omitempty"`        // the display name of their Vault token
	IssuedByEntity string `json:"issued_by_entity,omitempty"` // the id of their entity
	IssuedByName   string `json:"issued_by_name,omitempty"`   // the name of their entity
	IssuedByAlias  string `json:"issued_by_alias,omitempty"`  // the name by which they logged in
	IssuedByRole   string `json:"issued_by_role,omitempty"`   // the role of the auth method
}

// issuerOf returns who makes the request. A display name alone says little, since for most
// it is that of the auth method. If Vault does not answer more, the display name must do: the
// token is issued anyway.
func (b *mcpBackend) issuerOf(req *logical.Request) issuer {
	i := issuer{IssuedBy: bounded(req.DisplayName), IssuedByEntity: bounded(req.EntityID)}
	if req.EntityID == "" {
		return i
	}
	entity, err := b.System().EntityInfo(req.EntityID)
	if err != nil || entity == nil {
		b.Logger().Debug("Vault does not say who issues a token", "entity", req.EntityID, "error", err)
		return i
	}
	i.IssuedByName = bounded(entity.Name)
	var names, roles []string
	for _, alias := range aliasesOf(entity, req.DisplayName) {
		names = append(names, alias.Name)
		for _, key := range []string{"role_name", "role"} {
			if role := alias.Metadata[key]; role != "" {
				roles = append(roles, role)
				break
			}
		}
	}
	i.IssuedByAlias, i.IssuedByRole = bounded(strings.Join(names, ", ")), bounded(strings.Join(roles, ", "))
	return i
}

// aliasesOf returns the entity's aliases to which a Vault token of that display name can
// belong: the name starts with the auth method's. If none fits, as with a method that is
// mounted elsewhere, it returns all.
func aliasesOf(entity *logical.Entity, displayName string) []*logical.Alias {
	var fitting []*logical.Alias
	for _, alias := range entity.Aliases {
		if alias.MountType != "" && strings.HasPrefix(displayName, alias.MountType) {
			fitting = append(fitting, alias)
		}
	}
	if len(fitting) == 0 {
		return entity.Aliases
	}
	return fitting
}

// text describes the issuer with all known names.
func (i *issuer) text() string {
	var known []string
	for _, part := range []struct{ what, name string }{
		{"role", i.IssuedByRole}, {"alias", i.IssuedByAlias}, {"entity", i.IssuedByName},
	} {
		if part.name != "" {
			known = append(known, part.what+" "+part.name)
		}
	}
	if len(known) == 0 {
		return i.IssuedBy
	}
	return fmt.Sprintf("%s (%s)", i.IssuedBy, strings.Join(known, ", "))
}

// issuerData returns the issuer's fields in the answer to a read of a token.
func (i *issuer) issuerData() map[string]any {
	return map[string]any{
		"issued_by": i.text(), "issued_by_entity": i.IssuedByEntity, "issued_by_alias": i.IssuedByAlias, "issued_by_role": i.IssuedByRole,
	}
}

// bounded cuts a name that is too long to be kept.
func bounded(name string) string {
	if len(name) <= maxIssuerName {
		return name
	}
	return strings.ToValidUTF8(name[:maxIssuerName], "") + "…"
}
