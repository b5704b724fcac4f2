package pins

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// The kinds of a [Change].
const (
	Added     = "added"
	Removed   = "removed"
	Changed   = "changed"
	Text      = "text"      // a text has other words
	Members   = "members"   // a list of plain values has others
	Reordered = "reordered" // a list has the same in another order
)

// Change is one difference between two definitions. Path is its place in the definition:
// inputSchema.properties.path.type.
type Change struct {
	Path string `json:"path"`
	What string `json:"what"`
	Was  any    `json:"was,omitempty"` // of Members: those that are gone
	Is   any    `json:"is,omitempty"`  // of Members: those that came
}

// Compare lists the differences between two definitions, canonical JSON both, in the order
// in which people read them. Without an approved one, every value of the other is one that was
// added.
func Compare(approved, reported string) ([]Change, error) {
	after, err := parse(reported)
	if err != nil {
		return nil, err
	}
	c := &comparison{}
	if approved == "" {
		c.all("", after)
		return c.changes, nil
	}
	before, err := parse(approved)
	if err != nil {
		return nil, err
	}
	c.values("", before, after)
	return c.changes, nil
}

func parse(text string) (value any, err error) {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		return nil, fmt.Errorf("its text is not JSON: %w", err)
	}
	return value, nil
}

type comparison struct{ changes []Change }

func (c *comparison) add(path, what string, was, is any) {
	c.changes = append(c.changes, Change{path, what, was, is})
}

// all adds each value of a definition that is new.
func (c *comparison) all(path string, value any) {
	object, ok := value.(map[string]any)
	if !ok || len(object) == 0 {
		c.add(path, Added, nil, value)
		return
	}
	for _, key := range sortedKeys(object, nil) {
		c.all(join(path, key), object[key])
	}
}

func (c *comparison) values(path string, was, is any) {
	switch was := was.(type) {
	case map[string]any:
		if is, ok := is.(map[string]any); ok {
			c.objects(path, was, is)
			return
		}
	case []any:
		if is, ok := is.([]any); ok {
			c.lists(path, was, is)
			return
		}
	case string:
		if is, ok := is.(string); ok && was != is && (isProse(was) || isProse(is)) {
			c.add(path, Text, was, is)
			return
		}
	}
	if compact(was) != compact(is) {
		c.add(path, Changed, was, is)
	}
}

func (c *comparison) objects(path string, was, is map[string]any) {
	for _, key := range sortedKeys(was, is) {
		before, had := was[key]
		after, has := is[key]
		switch at := join(path, key); {
		case !had:
			c.add(at, Added, nil, after)
		case !has:
			c.add(at, Removed, before, nil)
		default:
			c.values(at, before, after)
		}
	}
}

func (c *comparison) lists(path string, was, is []any) {
	before, named := byName(was)
	after, alsoNamed := byName(is)
	switch {
	case plain(was) && plain(is):
		c.plainLists(path, was, is)
	case named && alsoNamed:
		c.objects(path, before, after)
		// Those that came are told in the order of keys.
		had := func(name string) bool { _, ok := before[name]; return ok }
		came, told := slices.DeleteFunc(namesOf(is), had), slices.DeleteFunc(sortedKeys(after, nil), had)
		if !inOrder(namesOf(was), namesOf(is)) || !slices.Equal(came, told) {
			c.add(path, Reordered, was, is)
		}
	default:
		for i := range max(len(was), len(is)) {
			switch at := fmt.Sprintf("%s[%d]", path, i); {
			case i >= len(was):
				c.add(at, Added, nil, is[i])
			case i >= len(is):
				c.add(at, Removed, was[i], nil)
			default:
				c.values(at, was[i], is[i])
			}
		}
	}
}

// plainLists compares enum, required and their like.
func (c *comparison) plainLists(path string, was, is []any) {
	gone, came := without(was, is), without(is, was)
	if len(gone) > 0 || len(came) > 0 {
		c.add(path, Members, gone, came)
	}
	if !inOrder(compactAll(was), compactAll(is)) {
		c.add(path, Reordered, was, is)
	}
}

// inOrder reports whether the common members of two lists are in one order, and the new ones behind
// them. In any other list the order says something, too.
func inOrder(was, is []string) bool {
	var common []string
	left := slices.Clone(is)
	for _, value := range was {
		if i := slices.Index(left, value); i >= 0 {
			left = slices.Delete(left, i, i+1)
			common = append(common, value)
		}
	}
	return slices.Equal(common, is[:len(common)])
}

func compactAll(list []any) []string {
	all := make([]string, 0, len(list))
	for _, value := range list {
		all = append(all, compact(value))
	}
	return all
}

// without has the values of a list that the other has not.
func without(list, other []any) []any {
	left := map[string]int{}
	for _, value := range other {
		left[compact(value)]++
	}
	var rest []any
	for _, value := range list {
		if left[compact(value)]--; left[compact(value)] < 0 {
			rest = append(rest, value)
		}
	}
	return rest
}

func plain(list []any) bool {
	return !slices.ContainsFunc(list, func(value any) bool {
		switch value.(type) {
		case map[string]any, []any:
			return true
		}
		return false
	})
}

// byName has the objects of a list by their names, as the arguments of a prompt have them;
// false if some have none, or the same.
func byName(list []any) (map[string]any, bool) {
	objects := map[string]any{}
	for _, value := range list {
		object, _ := value.(map[string]any)
		name, ok := object["name"].(string)
		if _, twice := objects[name]; !ok || twice {
			return nil, false
		}
		objects[name] = value
	}
	return objects, true
}

func namesOf(list []any) []string {
	names := make([]string, 0, len(list))
	for _, value := range list {
		object, _ := value.(map[string]any)
		name, _ := object["name"].(string)
		names = append(names, name)
	}
	return names
}

// sortedKeys are the keys of one or two objects: those for a model to read first, then the others.
func sortedKeys(a, b map[string]any) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	first := []string{"description", "title", "name"}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(slices.Index(first, b), slices.Index(first, a)), strings.Compare(a, b))
	})
	return slices.Compact(keys)
}

// word is a key, or a value, that needs no quotes.
var word = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$-]*$`)

// join is the path of a member.
func join(path, key string) string {
	switch {
	case !word.MatchString(key):
		return path + "[" + quoted(key) + "]"
	case path == "":
		return key
	}
	return path + "." + key
}

// isProse reports whether a text is one of words, and not one word.
func isProse(text string) bool {
	const longWord = 40
	return len(text) > longWord || strings.ContainsFunc(text, func(r rune) bool { return r == ' ' || r == '\n' })
}
