package apply

import (
	"encoding/json"
	"fmt"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"vault-plugin-secrets-mcp/backend/credential"
)

const fieldCredentials = "credentials"

// credentialsOf reads a server's credentials from a JSON object of paths and objects. nil
// is none.
func credentialsOf(object json.RawMessage) (map[string]credential.Spec, error) {
	if len(object) == 0 || string(object) == "null" {
		return nil, nil
	}
	texts, err := credential.SplitObject(string(object))
	if err != nil {
		return nil, &fieldError{fieldCredentials, fmt.Errorf("field credentials: it %w", err)}
	}
	specs := make(map[string]credential.Spec, len(texts))
	for _, name := range names(texts) {
		if specs[name], err = credential.ParseSpec(texts[name]); err != nil {
			return nil, &fieldError{fieldCredentials, fmt.Errorf("field credentials: %q: %w", name, err)}
		}
	}
	return specs, nil
}

// hclCredentials are the same from HCL, in which an object has no one type.
func hclCredentials(value cty.Value) (map[string]credential.Spec, error) {
	if value == cty.NilVal || value.IsNull() {
		return nil, nil
	}
	object, err := ctyjson.Marshal(value, value.Type())
	if err != nil {
		return nil, fmt.Errorf("field credentials: it is not an object of paths and objects")
	}
	return credentialsOf(object)
}

// expandCredentials expands variables in the paths and in the data.
func (x *expander) expandCredentials(specs map[string]credential.Spec) {
	for name, spec := range specs {
		spec.Path = x.expand(fieldCredentials+"."+name, spec.Path)
		for key, value := range spec.Data {
			spec.Data[key] = x.expand(fieldCredentials+"."+name+".data."+key, value)
		}
		specs[name] = spec
	}
}

// credentialData are the credentials as the engine takes them.
func (s *server) credentialData() map[string]any {
	data := make(map[string]any, len(s.credentials))
	for name, spec := range s.credentials {
		fields := map[string]any{"path": spec.Path, "method": spec.Verb()}
		if len(spec.Data) > 0 {
			fields["data"] = spec.Data
		}
		if spec.Refresh > 0 {
			fields["refresh"] = spec.Refresh
		}
		data[name] = fields
	}
	return data
}

// credentialsShown are the credentials as the engine reads them back.
func (s *server) credentialsShown() map[string]any {
	shown := make(map[string]any, len(s.credentials))
	for name, spec := range s.credentials {
		var refresh any
		if spec.Refresh > 0 {
			refresh = spec.Refresh
		}
		shown[name] = map[string]any{"path": spec.Path, "method": spec.Verb(), "refresh": refresh, "data": names(spec.Data)}
	}
	return shown
}

// hidden are the values of files and of the data of credentials; nil if there are none.
func (s *server) hidden() []any {
	data := map[string]map[string]string{}
	for name, spec := range s.credentials {
		if len(spec.Data) > 0 {
			data[name] = spec.Data
		}
	}
	if len(data) == 0 && len(s.files) == 0 {
		return nil
	}
	return []any{orNone(s.files), data}
}
