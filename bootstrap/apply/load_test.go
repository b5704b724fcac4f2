package apply

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestATokenIsTakenInlineBeforeTheVariableBeforeTheFile(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"token": " in-the-file\n", "empty": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SET", " in-the-variable ")
	t.Setenv("BLANK", " ")
	for _, test := range []struct {
		name   string
		inline string
		ref    tokenRef
		want   string // "error: …" for an error that contains the rest
	}{
		{"none", "", tokenRef{}, ""},
		{"inline alone, as it stands", " inline ", tokenRef{}, " inline "},
		{"inline before both", "inline", tokenRef{Env: "SET", File: "token"}, "inline"},
		{"inline before what cannot be read", "inline", tokenRef{Env: "UNSET", File: "gone"}, "inline"},
		{"the variable before the file", "", tokenRef{Env: "SET", File: "token"}, "in-the-variable"},
		{"the variable before a file that is not there", "", tokenRef{Env: "SET", File: "gone"}, "in-the-variable"},
		{"the file where the variable is not set", "", tokenRef{Env: "UNSET", File: "token"}, "in-the-file"},
		{"the file where the variable is blank", "", tokenRef{Env: "BLANK", File: "token"}, "in-the-file"},
		{"the file alone", "", tokenRef{File: "token"}, "in-the-file"},
		{"a file by its whole path", "", tokenRef{File: filepath.Join(dir, "token")}, "in-the-file"},
		{"a variable that is not set", "", tokenRef{Env: "UNSET"}, "error: the environment variable UNSET is not set or empty"},
		{"a variable that is blank", "", tokenRef{Env: "BLANK"}, "error: BLANK is not set or empty"},
		{"a file that is not there", "", tokenRef{File: "gone"}, "error: access_token_ref.file: open " + filepath.Join(dir, "gone")},
		{"a file that is empty", "", tokenRef{File: "empty"}, "error: empty is empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := accessToken(filepath.Join(dir, "client.json"), test.inline, test.ref)
			want, failure := strings.CutPrefix(test.want, "error: ")
			switch {
			case failure && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("err = %v, want %q in it", err, want)
			case !failure && (err != nil || got != want):
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
