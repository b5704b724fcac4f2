package manifests

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const deploy = "../../bootstrap/deploy"

// object is one document of a manifest.
type object struct {
	file   string
	source []byte // YAML
	fields map[string]any
}

func (o *object) kind() string       { return o.text("kind") }
func (o *object) apiVersion() string { return o.text("apiVersion") }

func (o *object) text(field string) string {
	value, _ := o.fields[field].(string)
	return value
}

func (o *object) name() string {
	metadata, _ := o.fields["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	return name
}

// objects returns the documents of all manifests in a folder.
func objects(t *testing.T, folder string) []object {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(deploy, "kubernetes", folder, "*.yaml"))
	require.NoError(t, err)
	var all []object
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		all = append(all, documents(t, file, content)...)
	}
	require.NotEmpty(t, all)
	return all
}

// documents returns the objects of one file.
func documents(t *testing.T, file string, content []byte) []object {
	t.Helper()
	var all []object
	reader := kyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err, file)
		o := object{file: file, source: document}
		require.NoError(t, yaml.UnmarshalStrict(document, &o.fields), "%s: %s", file, document)
		all = append(all, o)
	}
}

// changed returns the object with a text in it replaced.
func (o *object) changed(t *testing.T, old, replacement string) object {
	t.Helper()
	require.Contains(t, string(o.source), old)
	next := object{file: o.file, source: bytes.Replace(o.source, []byte(old), []byte(replacement), 1)}
	require.NoError(t, yaml.Unmarshal(next.source, &next.fields))
	return next
}

// section returns the text below a heading of a page, down to the next heading.
func section(t *testing.T, path, heading string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	_, after, found := strings.Cut(string(content), "\n"+heading+"\n")
	require.True(t, found, "%s has no heading %q", path, heading)
	below, _, _ := strings.Cut(after, "\n#")
	return below
}
