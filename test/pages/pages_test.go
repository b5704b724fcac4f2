package pages

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/doctable"
)

// root is the repository, seen from this folder.
const root = "../.."

// sources are the folders with the programs' source.
var sources = []string{"plugin", "backend", "gateway", "bootstrap"}

// goFiles returns the Go files below a folder of the repository, by their paths in it.
func goFiles(t *testing.T, folder string) []string {
	t.Helper()
	var files []string
	require.NoError(t, filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		relative, err := filepath.Rel(root, path)
		files = append(files, filepath.ToSlash(relative))
		return err
	}))
	return files
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return string(content)
}

// TestEveryTestThatAPageNamesExists: a page that promises something names the test which
// shows it, as `TestX` or, for a subtest, as `TestX/its name`.
func TestEveryTestThatAPageNamesExists(t *testing.T) {
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(\w+ \*testing\.[TF]\)`)
	tests := map[string]string{} // by name, the file that declares it
	for _, folder := range append(slices.Clone(sources), "test") {
		for _, path := range goFiles(t, folder) {
			source := read(t, path)
			for _, found := range function.FindAllStringSubmatch(source, -1) {
				tests[found[1]] = source
			}
		}
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	named := 0
	for _, page := range pages {
		content, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, found := range regexp.MustCompile("`((?:Test|Fuzz)[A-Z][^`\n]+)`").FindAllStringSubmatch(string(content), -1) {
			named++
			parts := strings.Split(found[1], "/")
			source, exists := tests[parts[0]]
			if !exists {
				t.Errorf("%s names %s, which does not exist", page, parts[0])
				continue
			}
			for _, part := range parts[1:] {
				if !strings.Contains(source, strconv.Quote(part)) {
					t.Errorf("%s names %s, which has no part %q", page, parts[0], part)
				}
			}
		}
	}
	require.Greater(t, named, 50)
}

// TestEveryThreatHasATest: each row of the threat model names a test that shows the
// defence.
func TestEveryThreatHasATest(t *testing.T) {
	content := read(t, "docs/threat-model.md")
	_, threats, found := strings.Cut(content, "\n## Threats\n")
	require.True(t, found)
	threats, _, found = strings.Cut(threats, "\n## ")
	require.True(t, found)
	rows := 0
	for line := range strings.Lines(threats) {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| threat ") {
			continue
		}
		rows++
		if !strings.Contains(line, "`Test") && !strings.Contains(line, "`Fuzz") {
			t.Errorf("no test is named for: %s", line)
		}
	}
	require.Greater(t, rows, 20)
}

// TestTheThreatModelHasTheGatewaysPolicy: the page has the gateway's rights in Vault,
// path for path, and in the policy's order.
func TestTheThreatModelHasTheGatewaysPolicy(t *testing.T) {
	rows, err := doctable.Read(filepath.Join(root, "docs", "threat-model.md"), "## What a gateway may do in Vault")
	require.NoError(t, err)
	var documented []string
	for _, row := range rows {
		documented = append(documented, strings.Join(doctable.Names(row[0]), "")+" "+strings.Join(doctable.Names(row[1]), ","))
	}
	var granted []string
	policy := read(t, "bootstrap/policies/mcp-gateway.hcl")
	for _, found := range regexp.MustCompile(`path "([^"]+)" \{\s*capabilities = \[([^\]]*)\]`).FindAllStringSubmatch(policy, -1) {
		granted = append(granted, found[1]+" "+strings.NewReplacer(`"`, "", " ", "").Replace(found[2]))
	}
	require.NotEmpty(t, granted)
	require.Equal(t, granted, documented)
}

// TestEveryFunctionOfTheMapExists: the tables of docs/architecture.md name functions as
// `package.function` or `package.Type.method`, and types as `package.Type`.
func TestEveryFunctionOfTheMapExists(t *testing.T) {
	declared := declaredNames(t)
	page := filepath.Join(root, "docs", "architecture.md")
	for _, heading := range []string{"## Request flow", "## Revocation flow"} {
		rows, err := doctable.Read(page, heading)
		require.NoError(t, err)
		functions := doctable.Column(rows, 2)
		require.Greater(t, len(functions), 8, heading)
		for _, function := range functions {
			if !declared[function] {
				t.Errorf("%s: there is no function %s", heading, function)
			}
		}
	}
	_, rest, found := strings.Cut(read(t, "docs/architecture.md"), "\n## Where to begin")
	require.True(t, found)
	names := regexp.MustCompile("`([a-z]+(?:\\.[a-zA-Z]+){1,2})`").FindAllStringSubmatch(rest, -1)
	require.Greater(t, len(names), 10)
	for _, name := range names {
		if !declared[name[1]] && !strings.HasSuffix(name[1], ".hcl") {
			t.Errorf("where to begin: there is no %s", name[1])
		}
	}
}

// declaredNames are the functions, methods and types of the programs, with the names of
// their packages.
func declaredNames(t *testing.T) map[string]bool {
	t.Helper()
	declared := map[string]bool{}
	for _, folder := range sources {
		for _, path := range goFiles(t, folder) {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, path), nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			for _, declaration := range file.Decls {
				switch d := declaration.(type) {
				case *ast.FuncDecl:
					declared[file.Name.Name+"."+receiver(d)+d.Name.Name] = true
				case *ast.GenDecl:
					for _, spec := range d.Specs {
						if named, ok := spec.(*ast.TypeSpec); ok {
							declared[file.Name.Name+"."+named.Name.Name] = true
						}
					}
				}
			}
		}
	}
	return declared
}

// receiver returns the name of a method's type with a dot, and nothing for a function.
func receiver(function *ast.FuncDecl) string {
	if function.Recv == nil {
		return ""
	}
	for expression := function.Recv.List[0].Type; ; {
		switch inner := expression.(type) {
		case *ast.StarExpr:
			expression = inner.X
		case *ast.IndexExpr:
			expression = inner.X
		case *ast.Ident:
			return inner.Name + "."
		default:
			return ""
		}
	}
}

// TestEveryPathOfTheSourceExists: pages for those who change the source name its files and
// folders.
func TestEveryPathOfTheSourceExists(t *testing.T) {
	path := regexp.MustCompile("`((?:plugin|backend|gateway|bootstrap|test|scripts|docs)/[a-zA-Z0-9_./-]*)`")
	for _, page := range []string{"docs/architecture.md", "docs/glossary.md", "docs/threat-model.md", "docs/dependencies.md", "CONTRIBUTING.md"} {
		for _, found := range path.FindAllStringSubmatch(read(t, page), -1) {
			if _, err := os.Stat(filepath.Join(root, found[1])); err != nil {
				t.Errorf("%s names %s, which does not exist", page, found[1])
			}
		}
	}
}

// TestTheMapHasEveryPackage: the layout in docs/architecture.md has a line for each
// package of the programs, and no line for one that is gone.
func TestTheMapHasEveryPackage(t *testing.T) {
	_, layout, found := strings.Cut(read(t, "docs/architecture.md"), "\n## Layout\n")
	require.True(t, found)
	layout, _, _ = strings.Cut(layout, "\n## ")
	listed := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^([a-z0-9./-]+/)  +\S`).FindAllStringSubmatch(layout, -1) {
		folder := strings.TrimSuffix(line[1], "/")
		listed[folder] = true
		require.DirExists(t, filepath.Join(root, folder))
	}
	for _, source := range sources {
		for _, path := range goFiles(t, source) {
			folder := filepath.ToSlash(filepath.Dir(path))
			if !strings.HasSuffix(path, "_test.go") && !listed[folder] {
				listed[folder] = true // told once
				t.Errorf("the layout has no line for %s/", folder)
			}
		}
	}
	require.Greater(t, len(listed), 30)
}
