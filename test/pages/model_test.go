package pages

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/doctable"
)

var updateModel = flag.Bool("update-model", false, "write the present digests of the functions into docs/model.md, after the page was read")

// TestTheModelIsThatOfThePresentCode: a row of docs/model.md says which function does a step of
// a model, and has the digest of the function as it was when somebody last compared the two. A
// function that has changed since is compared again: read it, the row and the model's step,
// correct whatever is not true any more, and then run
//
//	go test ./test/pages -run Model -update-model
func TestTheModelIsThatOfThePresentCode(t *testing.T) {
	path := filepath.Join(root, "docs", "model.md")
	rows, err := doctable.Read(path, "## Steps")
	require.NoError(t, err)
	content := read(t, "docs/model.md")
	comment, step := regexp.MustCompile(`(?s)/\*.*?\*/`), regexp.MustCompile(`\[([a-z][a-z ]+)\]`)
	mapped := map[string]bool{}
	for _, row := range rows {
		name := doctable.Names(row[0])
		require.Len(t, name, 2, "the first cell of a row has the model and the step: %v", row)
		mapped[name[0]+" "+name[1]] = true
		file, function := doctable.Names(row[1])[0], doctable.Names(row[1])[1]
		present := digestOf(t, file, function)
		if noted := doctable.Names(row[2]); len(noted) == 1 && noted[0] == present {
			continue
		}
		if !*updateModel {
			t.Errorf("%s in %s has changed since the step %q of the model %s was compared with it: compare them again, then run go test ./test/pages -run Model -update-model", function, file, name[1], name[0])
			continue
		}
		place := regexp.MustCompile(regexp.QuoteMeta("`"+name[0]+"` `"+name[1]+"` | `"+file+"` `"+function+"` | ") + "(?:`[0-9a-f]*`)?")
		require.Regexp(t, place, content)
		content = place.ReplaceAllStringFunc(content, func(found string) string {
			return found[:strings.LastIndex(found, "| ")+2] + "`" + present + "`"
		})
	}
	models, err := filepath.Glob(filepath.Join(root, "model", "*.pml"))
	require.NoError(t, err)
	require.NotEmpty(t, models)
	for _, model := range models {
		source, err := os.ReadFile(model)
		require.NoError(t, err)
		comments := strings.Join(comment.FindAllString(string(source), -1), "\n")
		for _, found := range step.FindAllStringSubmatch(comments, -1) {
			name := strings.TrimSuffix(filepath.Base(model), ".pml") + " " + found[1]
			require.True(t, mapped[name], "no row of docs/model.md says which function does the step %q", name)
		}
	}
	if *updateModel {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
}

// digestOf returns the digest of a function as the compiler sees it: without comments, and
// however it is formatted. A method is written Type.name.
func digestOf(t *testing.T, path, function string) string {
	t.Helper()
	source := []byte(read(t, path))
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
	require.NoError(t, err)
	for _, declaration := range parsed.Decls {
		f, ok := declaration.(*ast.FuncDecl)
		if !ok || nameOf(f) != function {
			continue
		}
		return digest(source[files.Position(f.Pos()).Offset:files.Position(f.End()).Offset])
	}
	t.Fatalf("docs/model.md names %s in %s, which does not exist", function, path)
	return ""
}

func nameOf(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	of := f.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if generic, ok := of.(*ast.IndexExpr); ok {
		of = generic.X
	}
	return of.(*ast.Ident).Name + "." + f.Name.Name
}

// digest is that of the tokens of a piece of source.
func digest(source []byte) string {
	var s scanner.Scanner
	files := token.NewFileSet()
	s.Init(files.AddFile("", files.Base(), len(source)), source, nil, 0)
	sum := sha256.New()
	for {
		_, kind, text := s.Scan()
		if kind == token.EOF {
			return hex.EncodeToString(sum.Sum(nil))[:12]
		}
		if kind == token.SEMICOLON {
			text = ";" // written, or at the end of a line
		}
		sum.Write([]byte(kind.String() + " " + text + "\n"))
	}
}

func TestADigestIsThatOfTheCodeAlone(t *testing.T) {
	one := digest([]byte("func f(a int) int {\n\t// says why\n\treturn a + 1\n}"))
	require.Equal(t, one, digest([]byte("func f(a int) int { return a+1; }")))
	require.NotEqual(t, one, digest([]byte("func f(a int) int { return a+2; }")))
}
