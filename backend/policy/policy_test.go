package policy

import (
	"encoding/json"
	"strings"
	"testing"
)

// wantError fails the test unless the error's text holds each of the parts.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one about %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

// mustParse returns the document that the JSON holds.
func mustParse(t testing.TB, text string) Document {
	t.Helper()
	d, _, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

// caseRow is one whole decision as the real program made it.
type caseRow struct {
	ID          string
	Allow, Deny json.RawMessage // nil: unset
	Server      struct {
		Name, Type, URL, Command string
		Args                     []string
	}
	Expect  string
	Invalid bool `json:"invalid_entry"`
}

// document returns the settings file that the row was observed with.
func (row *caseRow) document(t *testing.T) []byte {
	t.Helper()
	file := map[string]json.RawMessage{}
	if row.Allow != nil {
		file[AllowedSetting] = row.Allow
	}
	if row.Deny != nil {
		file[DeniedSetting] = row.Deny
	}
	data, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDecidesAsObserved(t *testing.T) {
	var file struct{ Cases []caseRow }
	readTestdata(t, "policy-cases.json", &file)
	if len(file.Cases) == 0 {
		t.Fatal("no rows")
	}
	for _, row := range file.Cases {
		t.Run(row.ID, func(t *testing.T) {
			document, _, err := decode(row.document(t))
			if (err != nil) != row.Invalid {
				t.Fatalf("error %v, want one: %v", err, row.Invalid)
			}
			if row.Invalid {
				return
			}
			server := Server{
				Name: row.Server.Name, Stdio: row.Server.Type == "stdio",
				URL: row.Server.URL, Command: row.Server.Command, Args: row.Server.Args,
			}
			d := Compile([]Source{{Name: "managed", Managed: true, Policy: document}}).Evaluate(&server)
			if d.Decision != row.Expect {
				t.Errorf("decision %s (%s), observed %s", d.Decision, d.Reason, row.Expect)
			}
			if d.Allowed != (d.Decision == Allowed) || d.Reason == "" || len(d.Checks) == 0 {
				t.Errorf("inconsistent: %+v", d)
			}
		})
	}
}

func TestReadsTestdataAsTheEngineWould(t *testing.T) {
	var file struct{ Cases []caseRow }
	readTestdata(t, "policy-cases.json", &file)
	for _, row := range file.Cases {
		var fields map[string]any
		if err := json.Unmarshal(row.document(t), &fields); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ParseFields(fields); (err != nil) != row.Invalid {
			t.Errorf("%s: error %v, want one: %v", row.ID, err, row.Invalid)
		}
	}
}
