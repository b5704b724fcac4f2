package pins

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNoTwoListsHaveTheSameDifferences: a person who knows the approved definition and sees
// the differences knows the reported one.
func TestNoTwoListsHaveTheSameDifferences(t *testing.T) {
	named := func(name string, members ...string) any {
		object := map[string]any{"name": name}
		for _, member := range members {
			object[member] = "x"
		}
		return object
	}
	for name, values := range map[string][]any{
		"plain values":            {"a", "b", "c"},
		"objects with names":      {named("a"), named("b"), named("title"), named("a", "more")},
		"objects, some with none": {named("a"), named("b"), map[string]any{"other": "x"}},
		"of both":                 {"a", named("a"), named("b"), []any{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			const longest = 3
			lists := [][]any{{}}
			for i := 0; i < len(lists); i++ {
				for _, value := range values {
					if list := lists[i]; len(list) < longest {
						lists = append(lists, append(list[:len(list):len(list)], value))
					}
				}
			}
			for _, was := range lists {
				told := map[string]string{}
				for _, is := range lists {
					text := compact(map[string]any{"list": is})
					changes, err := Compare(compact(map[string]any{"list": was}), text)
					require.NoError(t, err)
					differences := compact(changes)
					require.Empty(t, told[differences], "as well as %s instead of %v: %s", text, was, differences)
					told[differences] = text
				}
			}
		})
	}
}
