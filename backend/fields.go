package backend

import (
	"time"

	"github.com/hashicorp/vault/sdk/framework"
)

// Fields that several paths take.
var (
	nameField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "Name of the client: lower-case letters, digits and . _ - with a letter or digit at both ends.",
		Required:    true,
	}
	tokenField = &framework.FieldSchema{
		Type:         framework.TypeString,
		Description:  "The token itself. It goes in the request's body, never in a path or a query.",
		DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
	}
	accessorField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "The token's accessor, which stands for it wherever the token itself must not appear.",
	}
	allowReuseField = &framework.FieldSchema{
		Type:        framework.TypeBool,
		Description: "Accept an access_token that was revoked or replaced in this mount before. Without it such a token is refused: one that leaked must not come back with the next apply.",
	}
	ciphertextField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "An access_token that is encrypted under the mount's KMS key (config/kms) with the encryption context mcp-mount=<the mount's accessor>,mcp-client=<the client's name>, in the form in which `aws kms encrypt --output text --query CiphertextBlob` prints it.",
	}
	accessTokenField = &framework.FieldSchema{
		Type:         framework.TypeString,
		Description:  "A token of your own instead of a generated one: letters, digits and - . _ ~ + /, with = only at the end (RFC 6750 b64token), at least min_custom_token_length characters.",
		DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
	}
)

// tokenResponseFields are the fields in which operations speak of a token.
var tokenResponseFields = fields{
	"token":            {Type: framework.TypeString, Description: "The token. It is shown in this answer and never again."},
	"accessor":         {Type: framework.TypeString, Description: "The token's accessor."},
	"client":           {Type: framework.TypeString, Description: "The client's name."},
	"client_id":        {Type: framework.TypeString, Description: "The client's id. It never changes, and a client that is created again under the same name gets another one."},
	"kind":             {Type: framework.TypeString, Description: "issued, custom or leased."},
	"issued_at":        {Type: framework.TypeString, Description: "When the token was issued (RFC 3339)."},
	"expires_at":       {Type: framework.TypeString, Description: "When the token expires (RFC 3339); empty if it does not."},
	"ttl":              {Type: framework.TypeInt64, Description: "Seconds until the token expires, rounded up; 0 if it does not."},
	"issued_by":        {Type: framework.TypeString, Description: "Who asked for it: the display name of their Vault token, and role, alias and entity where Vault knows them."},
	"issued_by_entity": {Type: framework.TypeString, Description: "Id of the Vault entity that asked for it; empty for a Vault token without one."},
	"issued_by_alias":  {Type: framework.TypeString, Description: "The name by which that entity logged in, such as the role id of an AppRole or a user's name."},
	"issued_by_role":   {Type: framework.TypeString, Description: "The role of the auth method by which it logged in, if the method names one."},
	"send_as":          {Type: framework.TypeString, Description: "The header in which the token is sent."},
	"data_key":         {Type: framework.TypeString, Description: "Id of the data key that the token is sealed under; empty if it is not sealed."},
	"state":            {Type: framework.TypeString, Description: "active, grace (replaced, in its grace period), disabled (the client is), expired or revoked."},
}

// tokenFields are the schemas of the fields of tokenData, and of the other fields
// named.
func tokenFields(more ...string) fields {
	return merge(
		pick(tokenResponseFields, "client", "client_id", "accessor", "kind", "issued_at", "expires_at", "ttl"),
		pick(tokenResponseFields, more...))
}

// feedFields are in every answer that a gateway must be able to order among the
// events of the change feed.
func feedFields() fields {
	return fields{
		"epoch": {Type: framework.TypeString, Description: "The change feed that index belongs to.", Required: true},
		"index": {Type: framework.TypeInt64, Description: "The change feed's index, taken before the answer was read from storage: the answer includes every change up to it.", Required: true},
	}
}

// required returns a field without which the operation can do nothing.
func required(d *framework.FieldData, name, advice string) (string, error) {
	value, given := d.GetOk(name)
	if !given {
		return "", userErrorf("field %s is missing: %s", name, advice)
	}
	return value.(string), nil
}

// set sets target from a field, if the request has it.
func set[T any](d *framework.FieldData, field string, target *T) {
	if v, ok := d.GetOk(field); ok {
		*target = v.(T)
	}
}

// setDuration sets target from a field of seconds, if the request has it. The
// framework refuses negative durations.
func setDuration(d *framework.FieldData, field string, target *time.Duration) {
	if v, ok := d.GetOk(field); ok {
		*target = time.Duration(v.(int)) * time.Second
	}
}
