package names

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// join names the server's tool among those of all servers.
func join(server, name string) (string, error) {
	if err := Check(server, name); err != nil {
		return "", err
	}
	return Prefix(server) + name, nil
}

func TestToolsAreNamed(t *testing.T) {
	tests := map[string]struct {
		server, name, want string
		err                error
	}{
		"a plain name":                     {"calculator", "add", "calculator__add", nil},
		"a name with all the characters":   {"a-b_c", "Get.thing-1_x", "a-b_c__Get.thing-1_x", nil},
		"a name with the separator":        {"a", "b__c", "a__b__c", nil},
		"a name that starts with one half": {"a", "_b", "a___b", nil},
		"the longest name":                 {"a", strings.Repeat("x", 125), "a__" + strings.Repeat("x", 125), nil},
		"a name that is one too long":      {"a", strings.Repeat("x", 126), "", ErrTooLong},
		"no name":                          {"a", "", "", ErrEmpty},
		"a name with a space":              {"a", "b c", "", ErrCharacters},
		"a name with a slash":              {"a", "b/c", "", ErrCharacters},
		"a name with a NUL":                {"a", "b\x00", "", ErrCharacters},
		"a name that is not ASCII":         {"a", "zähle", "", ErrCharacters},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := join(test.server, test.name)
			require.ErrorIs(t, err, test.err)
			require.Equal(t, test.want, got)
			if err == nil {
				server, tool, ok := Split(got)
				require.True(t, ok)
				require.Equal(t, []string{test.server, test.name}, []string{server, tool})
			}
		})
	}
}

func TestSplitRefusesWhatIsNoName(t *testing.T) {
	tests := map[string]string{
		"nothing":                               "",
		"no separator":                          "calculator_add",
		"no server":                             "__add",
		"no tool":                               "calculator__",
		"a server that ends in an underscore":   "-___add",
		"a server that starts with a hyphen":    "-a__add",
		"a server that ends in a hyphen":        "a-__add",
		"a server with a dot":                   "a.b__add",
		"a server with a slash":                 "../a__add",
		"a tool with a slash":                   "a__b/c",
		"a tool with a line break":              "a__b\n",
		"one that is longer than any can be":    "a__" + strings.Repeat("x", 126),
		"a server that only looks alphanumeric": "ａ__b",
	}
	for name, joined := range tests {
		t.Run(name, func(t *testing.T) {
			server, tool, ok := Split(joined)
			require.False(t, ok)
			require.Empty(t, server+tool)
		})
	}
}

// FuzzNames holds that names are reversible in both directions, so that two
// tools never share one, and one never means two.
func FuzzNames(f *testing.F) {
	f.Add("calculator", "add")
	f.Add("a", "_b")
	f.Add("a_b", "_c__d")
	f.Add("", "a__b")
	f.Add("a-", "b")
	f.Fuzz(func(t *testing.T, server, name string) {
		if isServer(server) {
			if joined, err := join(server, name); err == nil {
				gotServer, gotName, ok := Split(joined)
				if !ok || gotServer != server || gotName != name {
					t.Fatalf("%q and %q became %q, which is %q and %q", server, name, joined, gotServer, gotName)
				}
				if len(joined) > MaxName {
					t.Fatalf("%q is longer than %d", joined, MaxName)
				}
			}
		}
		gotServer, gotName, ok := Split(name)
		if !ok {
			return
		}
		again, err := join(gotServer, gotName)
		if err != nil || again != name {
			t.Fatalf("%q was split into %q and %q, which make %q: %v", name, gotServer, gotName, again, err)
		}
	})
}
