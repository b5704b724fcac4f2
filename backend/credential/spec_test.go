package credential

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestASpecIsReadFromAPathOrAnObject(t *testing.T) {
	for text, want := range map[string]Spec{
		"database/creds/orders-ro":               {Path: "database/creds/orders-ro"},
		" database/creds/orders-ro\n":            {Path: "database/creds/orders-ro"},
		"{{client.alias}}/x":                     {Path: "{{client.alias}}/x"},
		`{"path": "kv/data/a"}`:                  {Path: "kv/data/a"},
		`{"path": "kv/data/a", "method":"read"}`: {Path: "kv/data/a"},
		` {"path":"pki/issue/web","method":"write","data":{"common_name":"a.example","ttl":"1h","n":1.10,"ok":true},"refresh":"5m"} `: {
			Path: "pki/issue/web", Method: "write", Refresh: 300,
			Data: map[string]string{"common_name": "a.example", "ttl": "1h", "n": "1.10", "ok": "true"},
		},
		`{"path":"kv/data/a","refresh":90}`: {Path: "kv/data/a", Refresh: 90},
		`{"path":"kv/data/a","data":{}}`:    {Path: "kv/data/a"},
	} {
		if got, err := ParseSpec(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestAnObjectThatTwoReadersCouldReadInTwoWaysIsRefused(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"a key twice":              {`{"path":"a/s3cret","path":"b/s3cret"}`, `"path" twice`},
		"a name of data twice":     {`{"path":"a/b","method":"write","data":{"x":"s3cret","x":"s3cret2"}}`, `"x" twice`},
		"a key in capitals":        {`{"Path":"a/s3cret"}`, `"Path", which is not known`},
		"an unknown key":           {`{"path":"a/b","ttl":"1h"}`, `"ttl", which is not known: use path, method, data and refresh`},
		"more text":                {`{"path":"a/s3cret"} x`, "more text"},
		"an end too early":         {`{"path":"a/s3cret"`, "not valid JSON"},
		"a bad string":             {`{"path":"a/s3cret\x"}`, "not valid JSON"},
		"no object at all":         {`{path: s3cret}`, "not valid JSON"},
		"a list of data":           {`{"path":"a/b","data":["s3cret"]}`, "its data is not a JSON object"},
		"an object in data":        {`{"path":"a/b","data":{"x":{"y":"s3cret"}}}`, `its data has a value of "x" that is not a string`},
		"null in data":             {`{"path":"a/b","data":{"x":null}}`, "not a string"},
		"a path that is a list":    {`{"path":["s3cret"]}`, "its path is not a string"},
		"a refresh in words":       {`{"path":"a/b","refresh":"often"}`, "its refresh \"often\" is not a valid duration"},
		"a refresh of nothing":     {`{"path":"a/b","refresh":0}`, "not a valid duration"},
		"a negative refresh":       {`{"path":"a/b","refresh":-5}`, "not a valid duration"},
		"a fraction of a second":   {`{"path":"a/b","refresh":"1500ms"}`, "whole seconds"},
		"a refresh that is a list": {`{"path":"a/b","refresh":[5]}`, "its refresh is not a string"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseSpec(tc.text)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("refused: %v", err)
			}
		})
	}
}

func TestAnObjectOfCredentialsIsSplitByName(t *testing.T) {
	got, err := SplitObject(` {"a": "b/c", "d" : { "path": "e/f" }, "n": 1.10} `)
	want := map[string]string{"a": "b/c", "d": `{ "path": "e/f" }`, "n": "1.10"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{``, `null`, `[]`, `"a"`, `{"a":null}`, `{"a":["b"]}`, `{"a":"b","a":"c"}`, `{"a":"b"`, `{"a":"b"}{}`} {
		if got, err := SplitObject(text); err == nil {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestASpecThatNoGatewayShouldAskForIsRefused(t *testing.T) {
	long := strings.Repeat("a", maxPath)
	for name, tc := range map[string]struct {
		spec Spec
		want string // "": it is fine
	}{
		"a path":                               {Spec{Path: "database/creds/orders-ro"}, ""},
		"a path below a mount with a slash":    {Spec{Path: "team/db/creds/ro"}, ""},
		"a path with a space":                  {Spec{Path: "kv/data/my secret"}, ""},
		"a path with two placeholders":         {Spec{Path: "kv/data/{{client.alias}}/x-{{person.alias}}"}, ""},
		"a placeholder with spaces":            {Spec{Path: "kv/data/{{ client.metadata.team }}"}, ""},
		"a segment named like a mount":         {Spec{Path: "kv/data/sys"}, ""},
		"a write":                              {Spec{Path: "ssh/creds/otp", Method: "write", Data: map[string]string{"ip": "10.0.0.1", "u": "{{client.alias}}"}}, ""},
		"a write without data":                 {Spec{Path: "pki/issue/x", Method: "write"}, ""},
		"a refresh of a day":                   {Spec{Path: "kv/data/a", Refresh: 86400}, ""},
		"no path":                              {Spec{}, "its path is missing: write one"},
		"a slash at the start":                 {Spec{Path: "/kv/data/a"}, "begins with /"},
		"a slash at the end":                   {Spec{Path: "kv/data/"}, "ends with /"},
		"two slashes":                          {Spec{Path: "kv//a"}, "has // in it"},
		"a parent folder":                      {Spec{Path: "kv/data/../../sys/raw"}, "segment that is . or .."},
		"a parent folder at the end":           {Spec{Path: "kv/.."}, "segment that is . or .."},
		"the same folder":                      {Spec{Path: "kv/./a"}, "segment that is . or .."},
		"a segment with a space at its end":    {Spec{Path: "kv/a /b"}, "begins or ends with a space"},
		"a mount alone":                        {Spec{Path: "database"}, "is a mount alone"},
		"sys":                                  {Spec{Path: "sys/policy"}, "below sys/, which is Vault's own"},
		"SYS":                                  {Spec{Path: "SYS/policy"}, "Vault's own"},
		"auth":                                 {Spec{Path: "auth/token/create"}, "Vault's own"},
		"identity":                             {Spec{Path: "identity/entity"}, "Vault's own"},
		"cubbyhole":                            {Spec{Path: "cubbyhole/x"}, "Vault's own"},
		"a line feed":                          {Spec{Path: "kv/a\nb"}, "control character"},
		"a NUL":                                {Spec{Path: "kv/a\x00"}, "control character"},
		"an invisible character":               {Spec{Path: "kv/a\u202e"}, "cannot be printed"},
		"bytes that are not UTF-8":             {Spec{Path: "kv/a\xff"}, "cannot be printed"},
		"a query":                              {Spec{Path: "kv/data/a?version=1"}, "has one of"},
		"a fragment":                           {Spec{Path: "kv/data/a#b"}, "has one of"},
		"a wildcard":                           {Spec{Path: "kv/data/*"}, "has one of"},
		"Vault's own wildcard":                 {Spec{Path: "kv/+/a"}, "has one of"},
		"an escape":                            {Spec{Path: "kv/%2e%2e/a"}, "has one of"},
		"a backslash":                          {Spec{Path: `kv\a/b`}, "has one of"},
		"a placeholder for the mount":          {Spec{Path: "{{client.metadata.m}}/a"}, "has {{client.metadata.m}} in its first segment"},
		"a placeholder in the mount":           {Spec{Path: "a{{client.alias}}/b"}, "first segment"},
		"an unknown placeholder":               {Spec{Path: "kv/{{client.name}}"}, "not known: use {{client.alias}}"},
		"a credential in a path":               {Spec{Path: "kv/{{db.password}}"}, "not known"},
		"a filter in a path":                   {Spec{Path: "kv/{{client.alias|urlencode}}"}, "not known"},
		"metadata without a key":               {Spec{Path: "kv/{{client.metadata.}}"}, "not known"},
		"Vault's placeholder":                  {Spec{Path: "kv/{{identity.entity.name}}"}, "not known"},
		"a placeholder without its end":        {Spec{Path: "kv/{{client.alias}"}, "has {{ without }}"},
		"one brace":                            {Spec{Path: "kv/{client.alias}"}, "has a brace outside a placeholder"},
		"braces that close nothing":            {Spec{Path: "kv/a}}"}, "has a brace"},
		"a variable":                           {Spec{Path: "kv/${TEAM}/a"}, "has a brace"},
		"a long path":                          {Spec{Path: "kv/" + long}, "are allowed"},
		"an unknown method":                    {Spec{Path: "kv/a", Method: "LIST"}, `"LIST" is not a method: use read or write`},
		"data of a read":                       {Spec{Path: "kv/a", Data: map[string]string{"a": "b"}}, "needs method write"},
		"data of a named read":                 {Spec{Path: "kv/a", Method: "read", Data: map[string]string{"a": "b"}}, "needs method write"},
		"a refresh of two days":                {Spec{Path: "kv/a", Refresh: 172800}, "use 1s to 24h, or leave it out for 5m"},
		"a negative refresh":                   {Spec{Path: "kv/a", Refresh: -1}, "use 1s to 24h"},
		"an unknown placeholder in data":       {Spec{Path: "kv/a", Method: "write", Data: map[string]string{"a": "s3cret{{x}}"}}, `its data "a" has a placeholder that is not known`},
		"an open placeholder in data":          {Spec{Path: "kv/a", Method: "write", Data: map[string]string{"a": "s3cret{{"}}, "without }}"},
		"data without a name":                  {Spec{Path: "kv/a", Method: "write", Data: map[string]string{"": "s3cret"}}, "has a name that is empty"},
		"data with a control character's name": {Spec{Path: "kv/a", Method: "write", Data: map[string]string{"a\n": "s3cret"}}, "control character"},
		"a long value of data":                 {Spec{Path: "kv/a", Method: "write", Data: map[string]string{"a": strings.Repeat("s3cret", maxDataValue)}}, "are allowed"},
		"a value that is not UTF-8":            {Spec{Path: "kv/a", Method: "write", Data: map[string]string{"a": "s3cret\xff"}}, "not UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.spec.Check()
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "s3cret") || len(err.Error()) > 500 {
				t.Errorf("refused: %v", err)
			}
		})
	}
}

func TestASpecIsResolvedForOnePrincipal(t *testing.T) {
	values := Values{ClientAlias: "mcp:a.b-c", PersonAlias: "mcp:okta:bob@corp.example", Metadata: map[string]string{"team": "x1"}}
	for name, tc := range map[string]struct {
		spec Spec
		path string
		data map[string]any
	}{
		"a plain path": {Spec{Path: "database/creds/ro"}, "database/creds/ro", nil},
		"a client":     {Spec{Path: "kv/data/mcp/{{client.alias}}/github"}, "kv/data/mcp/mcp:a.b-c/github", nil},
		"a person":     {Spec{Path: "kv/data/{{ person.alias }}"}, "kv/data/mcp:okta:bob@corp.example", nil},
		"metadata":     {Spec{Path: "db/creds/{{client.metadata.team}}-ro"}, "db/creds/x1-ro", nil},
		"a write": {
			Spec{Path: "pki/issue/x", Method: "write", Data: map[string]string{"common_name": "{{client.metadata.team}}.mcp", "ttl": "1h"}},
			"pki/issue/x",
			map[string]any{"common_name": "x1.mcp", "ttl": "1h"},
		},
		"a write without data": {Spec{Path: "pki/issue/x", Method: "write"}, "pki/issue/x", map[string]any{}},
	} {
		t.Run(name, func(t *testing.T) {
			path, data, err := tc.spec.Resolve(values)
			if err != nil || path != tc.path || !reflect.DeepEqual(data, tc.data) {
				t.Errorf("%q, %v, %v", path, data, err)
			}
		})
	}
}

// A value comes from a client's entry, or from a person's login. It must stay in its place in
// the path, or one client could read another's secrets.
func TestAValueThatCouldLeaveItsPlaceInAPathIsRefused(t *testing.T) {
	spec := Spec{Path: "kv/data/{{client.metadata.team}}/x"}
	write := Spec{Path: "kv/data/x", Method: "write", Data: map[string]string{"a": "{{client.metadata.team}}"}}
	for _, value := range []string{
		"..", ".", "../b", "a/b", "a/../b", "a..b", "/a", "a/", ".a", "a.", "-a", "a-", ":a", "a:", "a b", "a\n", "a\x00", "a?b", "a#b",
		"a%2fb", "a*", "a+b", `a\b`, "ä", "{{client.alias}}", "a\u202eb",
	} {
		for _, s := range []Spec{spec, write} {
			path, data, err := s.Resolve(Values{Metadata: map[string]string{"team": value}})
			if err == nil || path != "" || data != nil || !strings.Contains(err.Error(), "has {{client.metadata.team}}") {
				t.Errorf("%q: %q, %v, %v", value, path, data, err)
			}
			if err != nil && len(value) > 2 && strings.Contains(err.Error(), value) && value != "{{client.alias}}" {
				t.Errorf("%q stands in %q", value, err)
			}
		}
	}
}

func TestAValueThatIsMissingIsToldByItsName(t *testing.T) {
	for name, tc := range map[string]struct {
		path   string
		values Values
		want   string
	}{
		"no alias":                    {"kv/{{client.alias}}", Values{}, "the client has no alias"},
		"nobody is signed in":         {"kv/{{person.alias}}", Values{ClientAlias: "mcp:a"}, "nobody is signed in"},
		"metadata is not for it":      {"kv/{{client.metadata.team}}", Values{ClientAlias: "mcp:a"}, "clients with upstream_policies alone"},
		"there is no such value":      {"kv/{{client.metadata.team}}", Values{Metadata: map[string]string{}}, "no such value: set it"},
		"a path that was not checked": {"sys/{{client.alias}}", Values{ClientAlias: "mcp:a"}, "Vault's own"},
		"it gets too long":            {"kv/{{client.alias}}", Values{ClientAlias: strings.Repeat("a", maxPath)}, "are allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			if path, _, err := (Spec{Path: tc.path}).Resolve(tc.values); err == nil || path != "" || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%q, %v", path, err)
			}
		})
	}
}

func TestPlaceholdersOfASpecAreListedOnce(t *testing.T) {
	s := Spec{Path: "kv/{{client.metadata.team}}/{{client.alias}}/{{client.alias}}", Data: map[string]string{"a": "{{person.alias}}", "b": "{{client.metadata.team}}"}}
	if got := s.Placeholders(); !slices.Equal(got, []string{"client.alias", "client.metadata.team", "person.alias"}) {
		t.Error(got)
	}
	if got := (Spec{Path: "kv/data/a"}).Placeholders(); len(got) != 0 {
		t.Error(got)
	}
}

// FuzzSpec: a credential that passes Check can be resolved, and stays below the mount that
// it names and within as many segments as it has.
func FuzzSpec(f *testing.F) {
	f.Add("kv/data/{{client.alias}}/x", "a")
	f.Add(`{"path":"pki/issue/{{client.metadata.team}}","method":"write","data":{"cn":"{{person.alias}}"},"refresh":"5m"}`, "a:b@c.d")
	f.Add(`{"path":"a/b","path":"c/d"}`, "..")
	f.Add("kv/{{", "a/b")
	f.Add(`{"a": "b/c", "d": {"path": "e/f"}, "g": null, "h": 1}`, "a")
	f.Fuzz(func(t *testing.T, text, value string) {
		if texts, err := SplitObject(text); err == nil {
			for _, inner := range texts {
				_, _ = ParseSpec(inner) // it must not panic
			}
		}
		s, err := ParseSpec(text)
		if err != nil || s.Check() != nil {
			return
		}
		team := map[string]string{}
		for _, p := range s.Placeholders() {
			if key, ok := strings.CutPrefix(p, ClientMetadata); ok {
				team[key] = value
			}
		}
		path, data, err := s.Resolve(Values{ClientAlias: value, PersonAlias: value, Metadata: team})
		if err != nil {
			return
		}
		before, after := strings.Split(s.Path, "/"), strings.Split(path, "/")
		if before[0] != after[0] || len(before) != len(after) || strings.Contains(path, "{{") {
			t.Errorf("%q with %q: %q", s.Path, value, path)
		}
		if slices.Contains(after, "..") || len(data) != len(s.Data) {
			t.Errorf("%q with %q: %q, %v", s.Path, value, path, data)
		}
		if err := (Spec{Path: path}).Check(); err != nil {
			t.Errorf("%q is not a path: %v", path, err)
		}
	})
}
