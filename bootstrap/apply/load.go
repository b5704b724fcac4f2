package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

var errNoFiles = errors.New("there is no file that ends in .hcl, .json or .toml")

// load reads every .hcl, .json and .toml file of a folder, in alphabetical order, and of
// the folders in it, except those that begin with a dot and are not [clientFiles]. Mistakes in the files are in the
// result; the error is about the folder.
func load(dir string) (*desired, error) {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		within, err := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case path != dir && hidden(within, entry.IsDir()):
			if entry.IsDir() {
				return fs.SkipDir
			}
		case !entry.IsDir() && slices.Contains([]string{".hcl", ".json", ".toml"}, filepath.Ext(path)):
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the folder: %w", err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s: %w", dir, errNoFiles)
	}
	// HCL first: it may name JSON files, which are then not read on their own.
	slices.SortStableFunc(paths, func(a, b string) int { return strings.Compare(filepath.Ext(a), filepath.Ext(b)) })
	d := &desired{root: dir, config: map[string]any{}}
	named := map[string]bool{}
	for _, path := range paths {
		content, err := readFile(path)
		if err != nil {
			return nil, err
		}
		switch {
		case filepath.Ext(path) == ".hcl":
			d.loadHCL(path, content, named)
		case filepath.Ext(path) == ".toml":
			d.loadTOML(path, content)
		case !named[filepath.Clean(path)]:
			d.loadJSON(path, content)
		}
	}
	d.check()
	return d, nil
}

// tokenRef says where a token is, on this machine.
type tokenRef struct {
	Env  string `json:"env"`
	File string `json:"file"`
}

// Fields of a client that bring its token.
const (
	fieldToken      = "access_token"
	fieldCiphertext = "access_token_ciphertext"
)

var errTwoTokens = errors.New("fields access_token, access_token_ref and access_token_ciphertext: give one of them")

// addToken adds a client, with the token that its file brings, if it does.
func (d *desired) addToken(c client, inline string, ref tokenRef) {
	var err error
	c.accessToken, err = accessToken(c.at.file, inline, ref)
	if err == nil && c.accessToken != "" && c.ciphertext != "" {
		err = errTwoTokens
	}
	if err != nil {
		d.mistake(c.at.of(fieldToken), fmt.Errorf("client %q: %w", c.name, err))
	}
	d.clients = append(d.clients, c)
}

// accessToken resolves a client's token: inline before env before file. A file's
// path is relative to the file that names it. Without any of them it is empty.
func accessToken(source, inline string, ref tokenRef) (string, error) {
	if inline != "" {
		return inline, nil
	}
	if ref.Env != "" {
		if value := strings.TrimSpace(os.Getenv(ref.Env)); value != "" {
			return value, nil
		}
		if ref.File == "" {
			return "", fmt.Errorf("field access_token_ref.env: the environment variable %s is not set or empty: set it where mcp-bootstrap runs", ref.Env)
		}
	}
	if ref.File == "" {
		return "", nil
	}
	path := ref.File
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(source), path)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("field access_token_ref.file: %w", err)
	}
	value := strings.TrimSpace(string(content))
	if value == "" {
		return "", fmt.Errorf("field access_token_ref.file: %s is empty", path)
	}
	return value, nil
}
