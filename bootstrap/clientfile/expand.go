package clientfile

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// input is a value that VS Code asks people for.
//
// https://code.visualstudio.com/docs/copilot/reference/mcp-configuration#_input-variables-for-sensitive-data
type input struct {
	fallback string // its default
	known    bool   // whether it has one
}

func inputsOf(document map[string]any) map[string]input {
	list, _ := document[keyInputs].([]any)
	if settings, ok := document[keyInSettings].(map[string]any); ok && list == nil {
		list, _ = settings[keyInputs].([]any)
	}
	inputs := map[string]input{}
	for _, element := range list {
		object, _ := element.(map[string]any)
		id, _ := object["id"].(string)
		fallback, known := object["default"].(string)
		inputs[id] = input{fallback, known && fallback != ""}
	}
	return inputs
}

// inputVariable is the environment variable that has the value of an input.
func inputVariable(id string) string {
	return "INPUT_" + strings.ToUpper(strings.Trim(notInVariable.ReplaceAllString(id, "_"), "_"))
}

var (
	notInVariable = regexp.MustCompile(`[^A-Za-z0-9]+`)

	// variable is ${NAME}, ${NAME:-otherwise} (Claude Code), ${env:NAME} (VS Code, Cursor), or
	// any other ${…}.
	variable = regexp.MustCompile(`\$\{([^}]*)\}`)
	// named is the content of a variable of the environment.
	named = regexp.MustCompile(`^(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?$`)
	// bare is $NAME at the end of a text, which Gemini CLI expands and no other program does.
	bare = regexp.MustCompile(`(?:^|[ =])\$[A-Z_][A-Z0-9_]+$`)
	// telling is a text between braces that is a variable's name, and so no part of a secret.
	telling = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.:-]{0,63}$`)
)

// expand replaces the variables of a text. It does not expand variables in their values.
func (r *reader) expand(path, text string) string {
	if bare.MatchString(text) {
		r.problem(path, "only Gemini CLI knows variables without braces: write ${NAME}. If the text is meant as it is, give it as the value of a variable")
	}
	return variable.ReplaceAllStringFunc(text, func(match string) string {
		value, err := r.value(strings.TrimSuffix(strings.TrimPrefix(match, "${"), "}"))
		if err != nil {
			r.problem(path, "%v", err)
		}
		return value
	})
}

// unexpanded is a text as it is in the file, without the variables' other values.
func unexpanded(text string) string {
	return variable.ReplaceAllStringFunc(text, func(match string) string {
		return "${" + shownName(strings.Trim(match, "${}")) + "}"
	})
}

// shownName is the name of a variable, which may be told.
func shownName(content string) string {
	name, _, _ := strings.Cut(content, ":-")
	if !telling.MatchString(name) {
		return "…"
	}
	return name
}

// ofPrograms are variables that programs set themselves: the folder of a project or of a plugin,
// and the like. No environment has them.
var ofPrograms = []string{
	"workspaceFolder", "workspaceFolderBasename", "userHome", "pathSeparator", "cwd", "execPath", "file", "fileDirname", "extensionPath",
	"CLAUDE_PLUGIN_ROOT", "CLAUDE_PLUGIN_DATA", "CLAUDE_PROJECT_DIR",
}

// value is the value of a variable, given the text between its braces.
func (r *reader) value(content string) (string, error) {
	if id, ok := strings.CutPrefix(content, "input:"); ok {
		return r.inputValue(id)
	}
	if strings.Contains(content, "${") {
		return "", errors.New("a variable stands within another one: write one of them")
	}
	parts := named.FindStringSubmatch(content)
	if len(parts) == 0 || slices.Contains(ofPrograms, parts[1]) {
		return "", fmt.Errorf("only the program that the file is for knows ${%s}: write the value that it has on the gateway's machine", shownName(content))
	}
	if value, set := r.lookup(parts[1]); set {
		return value, nil
	}
	if strings.Contains(content, ":-") {
		return parts[2], nil
	}
	return "", fmt.Errorf("the environment variable %s is not set: set it where mcp-bootstrap runs", parts[1])
}

func (r *reader) inputValue(id string) (string, error) {
	name := inputVariable(id)
	if value, set := r.lookup(name); set {
		return value, nil
	}
	if in := r.inputs[id]; in.known {
		return in.fallback, nil
	}
	return "", fmt.Errorf("the program asks a person for ${input:%s}: set the environment variable %s to its value where mcp-bootstrap runs", shownName(id), name)
}

// placeholder is a text that documentation has in the place of a secret.
var placeholder = regexp.MustCompile(`(?i)^(bearer +)?(<[^>]*>|\[[^\]]*\]|x{4,}|\.{3,}|(your|my|insert|enter)[-_ ].*(key|token|secret|password|id)([-_ ]here)?)$`)
