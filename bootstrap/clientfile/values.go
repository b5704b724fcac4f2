package clientfile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// passed takes Codex's list of variables that the server gets from the environment.
func (e *entry) passed(key string) {
	list, ok := e.object[key].([]any)
	if !ok {
		e.mistyped(join(e.path, key), "a list of names of variables")
	}
	for i, element := range list {
		if object, ok := element.(map[string]any); ok {
			element = object["name"]
		}
		path := fmt.Sprintf("%s[%d]", join(e.path, key), i)
		name, ok := element.(string)
		if !ok {
			e.mistyped(path, "the name of a variable")
			continue
		}
		e.server.Env[name] = e.variable(path, name)
	}
}

// variable is the value of the environment variable with that name.
func (e *entry) variable(path, name string) string { return e.expand(path, "${"+name+"}") }

func (e *entry) mistyped(path, want string) {
	e.problem(path, "server %q: write %s here", e.server.Name, want)
}

// text is a field with one text.
func (e *entry) text(key string) string {
	path := join(e.path, key)
	text, ok := scalar(e.object[key])
	if !ok {
		e.mistyped(path, "a text")
		return ""
	}
	return e.expand(path, text)
}

// shown is a text that the registry shows to those who read it, a URL without its query.
func (e *entry) shown(key string) string {
	text := e.text(key)
	if written, ok := e.object[key].(string); ok && text != written {
		expanded, _, _ := strings.Cut(text, "?")
		written, _, _ = strings.Cut(unexpanded(written), "?")
		e.server.Shown[expanded] = written
	}
	return text
}

// texts is a field with a list of texts, which the registry shows.
func (e *entry) texts(key string) []string {
	path := join(e.path, key)
	list, ok := e.object[key].([]any)
	if !ok {
		e.mistyped(path, "a list of texts")
		return nil
	}
	all := make([]string, 0, len(list))
	for i, element := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		text, ok := scalar(element)
		if !ok {
			e.mistyped(at, "a text")
			continue
		}
		value := e.expand(at, text)
		if value != text {
			e.server.Shown[value] = unexpanded(text)
		}
		all = append(all, value)
	}
	return all
}

// pairs is a field with texts by name. value makes the value from the text in the file.
func (e *entry) pairs(key string, value func(path, text string) string) map[string]string {
	path := join(e.path, key)
	object, ok := e.object[key].(map[string]any)
	if !ok {
		e.mistyped(path, "an object of texts")
		return nil
	}
	all := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		at := join(path, name)
		if object[name] == nil { // VS Code: the program does not get the variable
			continue
		}
		text, ok := scalar(object[name])
		if !ok {
			e.mistyped(at, "a text")
			continue
		}
		all[name] = value(at, text)
		if placeholder.MatchString(all[name]) {
			e.note(at, "server %q: the value of %s looks like an example's: the server will want a real one", e.server.Name, name)
		}
	}
	return all
}

// scalar is a text, or a number or a truth value in the place of one: programs take those, too.
func scalar(value any) (text string, ok bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool, json.Number, int64: // of JSON, and of TOML
		return fmt.Sprint(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}
