package manifests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/stretchr/testify/require"
)

// stages returns the build's stages, and the findings of BuildKit's linter.
func stages(t *testing.T, path string) (found []instructions.Stage, complaints []string) {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	parsed, err := parser.Parse(file)
	require.NoError(t, err)
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) {
		complaints = append(complaints, rule+": "+message)
	}})
	found, _, err = instructions.Parse(parsed.AST, lint)
	require.NoError(t, err)
	return found, complaints
}

func TestTheImageHoldsTheGatewayAloneAndIsNotRoots(t *testing.T) {
	path := filepath.Join(deploy, "docker", "Dockerfile")
	found, complaints := stages(t, path)
	require.Empty(t, complaints)
	require.Len(t, found, 2)
	last := found[1]
	require.Equal(t, "scratch", last.BaseName)
	copied := map[string]bool{}
	var user, entry string
	for _, command := range last.Commands {
		switch command := command.(type) {
		case *instructions.CopyCommand:
			require.Equal(t, found[0].Name, command.From)
			copied[command.DestPath] = true
		case *instructions.UserCommand:
			user = command.User
		case *instructions.EntrypointCommand:
			require.False(t, command.PrependShell, "there is no shell in the image")
			entry = command.CmdLine[0]
		case *instructions.CmdCommand:
			require.False(t, command.PrependShell, "there is no shell in the image")
		case *instructions.RunCommand:
			t.Error("nothing can be run in an empty image")
		}
	}
	require.Equal(t, map[string]bool{"/etc/ssl/certs/ca-certificates.crt": true, entry: true}, copied)
	require.Equal(t, "65532:65532", user)
}

// TestTheImageIsBuiltFromAllItNeeds: every package of the gateway is in a folder
// that is copied, and is not ignored.
func TestTheImageIsBuiltFromAllItNeeds(t *testing.T) {
	found, _ := stages(t, filepath.Join(deploy, "docker", "Dockerfile"))
	var copied []string
	for _, command := range found[0].Commands {
		if command, ok := command.(*instructions.CopyCommand); ok {
			copied = append(copied, command.SourcePaths...)
		}
	}
	ignore, err := os.Open(filepath.Join(deploy, "docker", "Dockerfile.dockerignore"))
	require.NoError(t, err)
	defer ignore.Close()
	patterns, err := ignorefile.ReadAll(ignore)
	require.NoError(t, err)
	matcher, err := patternmatcher.New(patterns)
	require.NoError(t, err)

	const module = "vault-plugin-secrets-mcp/"
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./gateway/cmd/mcp-gateway")
	list.Dir = "../.."
	output, err := list.Output()
	require.NoError(t, err)
	seen := 0
	for name := range strings.FieldsSeq(string(output)) {
		folder, ours := strings.CutPrefix(name, module)
		if !ours {
			continue
		}
		seen++
		top, _, _ := strings.Cut(folder, "/")
		require.Contains(t, copied, top)
		ignored, err := matcher.MatchesOrParentMatches(folder + "/any.go")
		require.NoError(t, err)
		require.False(t, ignored, folder)
	}
	require.Positive(t, seen)
	for path, want := range map[string]bool{"go.sum": false, "gateway/cmd/mcp-gateway/main_test.go": true, ".cache/vault": true, "test/doc.go": true, "README.md": true} {
		ignored, err := matcher.MatchesOrParentMatches(path)
		require.NoError(t, err)
		require.Equal(t, want, ignored, path)
	}
}
