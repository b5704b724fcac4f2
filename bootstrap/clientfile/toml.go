package clientfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// ParseTOML reads a file of Codex. lines are those of its keys, by their paths. The error has
// the line, and no value.
func ParseTOML(content []byte) (document map[string]any, lines map[string]int, err error) {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	if err := toml.Unmarshal(content, &document); err != nil {
		var wrong *toml.DecodeError
		if errors.As(err, &wrong) {
			line, _ := wrong.Position()
			text := strings.TrimPrefix(wrong.Error(), "toml: ")
			if strings.Contains(text, "parsing") { // strconv quotes the value
				text = "a number is not valid"
			}
			return nil, nil, fmt.Errorf("line %d: it is not valid TOML: %s", line, text)
		}
		return nil, nil, fmt.Errorf("it is not valid TOML: %w", err)
	}
	return document, linesOf(content), nil
}

// linesOf are the lines of the keys of a valid file.
func linesOf(content []byte) map[string]int {
	lines := map[string]int{}
	var parser unstable.Parser
	parser.Reset(content)
	table := ""
	for parser.NextExpression() {
		expression := parser.Expression()
		path := ""
		if expression.Kind == unstable.KeyValue {
			path = table
		}
		keys := expression.Key()
		for keys.Next() {
			key := keys.Node()
			path = join(path, string(key.Data))
			if lines[path] == 0 {
				lines[path] = parser.Shape(key.Raw).Start.Line
			}
		}
		if expression.Kind != unstable.KeyValue {
			table = path
		}
	}
	return lines
}
