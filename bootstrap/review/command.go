package review

import (
	"encoding/json"
	"regexp"
	"strings"

	"vault-plugin-secrets-mcp/bootstrap/console"
)

// field is a field of a write with its values.
type field struct {
	name   string
	values []string
}

// plain is a value that Vault's CLI and the engine take as it is: no comma, which would part
// it, and nothing that means something to one of them.
var plain = regexp.MustCompile(`^[A-Za-z0-9*][A-Za-z0-9*._/:+-]*$`)

// writeCommand is a command for a shell that writes fields of a path. Values that a list with
// commas could not carry are written as JSON.
func writeCommand(path string, fields []field) string {
	var words []string
	for _, f := range fields {
		for _, value := range f.values {
			if !plain.MatchString(value) {
				return jsonCommand(path, fields)
			}
		}
		words = append(words, f.name+"="+console.ShellQuoted(strings.Join(f.values, ",")))
	}
	return "vault write " + console.ShellQuoted(path) + " " + strings.Join(words, " ")
}

func jsonCommand(path string, fields []field) string {
	body := map[string]any{}
	for _, f := range fields {
		switch {
		case f.name == "rate_limit" || f.name == "rate_burst":
			body[f.name] = json.Number(f.values[0])
		case f.name == "role":
			body[f.name] = ""
		default:
			body[f.name] = f.values
		}
	}
	data, err := json.Marshal(body)
	if err != nil {
		panic(err) // texts and numbers always have a JSON form
	}
	return "printf %s " + console.ShellQuoted(string(data)) + " | vault write " + console.ShellQuoted(path) + " -"
}
