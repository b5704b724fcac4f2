package apply

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/policy"
)

// role is rights that many clients have.
type role struct {
	at     place
	name   string
	fields map[string]any // as the engine reads them back
}

// settings are the role's as the engine would hold them.
func (r *role) settings() check.Role { return check.Role{Rights: rightsOf(r.fields)} }

// hclRole is a block role. Its other attributes are hclRights.
type hclRole struct {
	Name   string   `hcl:"name,label"`
	Rights hcl.Body `hcl:",remain"`
}

// hclRights are the attributes of rights. A list of allowed items that is not there is unset.
type hclRights struct {
	AllowedServers   []string  `hcl:"allowed_servers,optional" json:"allowed_servers"`
	AllowedTools     *[]string `hcl:"allowed_tools" json:"allowed_tools"`
	DeniedTools      []string  `hcl:"denied_tools,optional" json:"denied_tools"`
	AllowedPrompts   *[]string `hcl:"allowed_prompts" json:"allowed_prompts"`
	DeniedPrompts    []string  `hcl:"denied_prompts,optional" json:"denied_prompts"`
	AllowedResources *[]string `hcl:"allowed_resources" json:"allowed_resources"`
	DeniedResources  []string  `hcl:"denied_resources,optional" json:"denied_resources"`
	RateLimit        float64   `hcl:"rate_limit,optional" json:"rate_limit"`
	RateBurst        int64     `hcl:"rate_burst,optional" json:"rate_burst"`
}

// addTo sets all fields of rights.
func (r *hclRights) addTo(fields map[string]any) {
	for field, list := range map[string][]string{
		"allowed_servers": r.AllowedServers, "denied_tools": r.DeniedTools, "denied_prompts": r.DeniedPrompts, "denied_resources": r.DeniedResources,
	} {
		fields[field] = unique(list)
	}
	for field, list := range map[string]*[]string{
		"allowed_tools": r.AllowedTools, "allowed_prompts": r.AllowedPrompts, "allowed_resources": r.AllowedResources,
	} {
		fields[field] = nil
		if list != nil {
			fields[field] = unique(*list)
		}
	}
	fields["rate_limit"], fields["rate_burst"] = r.RateLimit, r.RateBurst
}

// rightsOf are the rights in fields as the engine would hold them.
func rightsOf(fields map[string]any) check.Rights {
	list := func(field string) []string {
		values, _ := fields[field].([]string)
		return values
	}
	limit, _ := fields["rate_limit"].(float64)
	burst, _ := fields["rate_burst"].(int64)
	return check.Rights{RateLimit: limit, RateBurst: int(burst), Lists: policy.Lists{
		AllowedServers: list("allowed_servers"),
		AllowedTools:   list("allowed_tools"), DeniedTools: list("denied_tools"),
		AllowedPrompts: list("allowed_prompts"), DeniedPrompts: list("denied_prompts"),
		AllowedResources: list("allowed_resources"), DeniedResources: list("denied_resources"),
	}}
}

// rights reads the rest of a block, and records the mistakes in it.
func (d *desired) rights(at place, body hcl.Body) (rights hclRights, ok bool) {
	if diags := gohcl.DecodeBody(body, functions(at.file), &rights); diags.HasErrors() {
		d.diagnosed(diags)
		return rights, false
	}
	return rights, true
}

func (d *desired) addRole(at place, r hclRole) {
	rights, ok := d.rights(at, r.Rights)
	if !ok {
		return
	}
	fields := map[string]any{}
	rights.addTo(fields)
	d.roles = append(d.roles, role{at: at, name: r.Name, fields: fields})
}

// rolesFolder is the name of the folders whose JSON files are roles: they look like clients.
const rolesFolder = "roles"

// holdsRole reports whether a JSON file is a role. The folder that holds everything may have
// any name.
func (d *desired) holdsRole(file string) bool {
	folder := filepath.Dir(file)
	return filepath.Base(folder) == rolesFolder && folder != filepath.Clean(d.root)
}

// jsonRole is a role in a file of its own, which has its name unless it says another one.
type jsonRole struct {
	Name string `json:"name"`
	hclRights
}

var errNotRole = errors.New("it brings a token, and so is a client: take it out of the folder " + rolesFolder + ", whose files are roles")

func (d *desired) loadRole(at place, content []byte, object map[string]any) error {
	if object[fieldToken] != nil || object["access_token_ref"] != nil || object[fieldCiphertext] != nil {
		return errNotRole
	}
	var r jsonRole
	if err := decode(content, &r, true); err != nil {
		return err
	}
	if r.Name == "" && at.element == "" {
		r.Name = strings.TrimSuffix(filepath.Base(at.file), filepath.Ext(at.file))
	}
	if r.Name == "" {
		return errNoName
	}
	fields := map[string]any{}
	r.addTo(fields)
	d.roles = append(d.roles, role{at: at, name: r.Name, fields: fields})
	return nil
}

// planRoles comes before the clients, which reach nothing while their role is missing.
func (s *session) planRoles(ctx context.Context) error {
	for _, r := range s.desired.roles {
		have, err := s.read(ctx, "roles/"+r.name)
		if err != nil {
			return err
		}
		p := &step{kind: kindClientRole, name: r.name, is: verb(have), lines: differences(r.fields, have)}
		if s.DryRun {
			settings := r.settings()
			if err := s.warnOfMissing(ctx, p, kindServer, settings.AllowedServers, check.NoSuchServer); err != nil {
				return err
			}
		}
		p.do = func(ctx context.Context) error {
			if have == nil {
				_, err := s.put(ctx, "roles/"+r.name, set(r.fields))
				return err
			}
			secret, err := s.vault.Logical().JSONMergePatch(ctx, s.Mount+"/roles/"+r.name, merged(maps.Clone(r.fields)))
			s.warn(secret)
			return explain(err)
		}
		s.add(p)
	}
	return nil
}

// set returns the fields without those that are unset, for a write.
func set(fields map[string]any) map[string]any {
	data := maps.Clone(fields)
	maps.DeleteFunc(data, func(_ string, value any) bool { return value == nil })
	return data
}
