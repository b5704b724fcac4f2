package apply

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write what is read into testdata/client-files.golden")

// TestFilesOfMCPClientsAreRead reads files whose shapes were found in thirty public
// repositories, with other names and values. The golden file has the servers of each, and
// the notes with their places.
func TestFilesOfMCPClientsAreRead(t *testing.T) {
	for name, value := range map[string]string{
		"TICKETS_KEY": "tickets-secret", "INPUT_BUILDS_BASIC_AUTH": "builds-secret", "INPUT_VIDEOS_KEY": "videos-secret",
		"CODE_TOKEN": "code-secret", "TRACKER_TOKEN": "tracker-secret", "TRACKER_KEY": "tracker-secret-too", "ASPIRE_HOME": "/opt/aspire",
	} {
		t.Setenv(name, value)
	}
	folder := filepath.Join("testdata", "client-files")
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, entries, 30)
	var all strings.Builder
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		require.NoError(t, err)
		d := &desired{config: map[string]any{}}
		if filepath.Ext(entry.Name()) == ".toml" {
			d.loadTOML(entry.Name(), content)
		} else {
			d.loadJSON(entry.Name(), content)
		}
		d.check()
		fmt.Fprintln(&all, "#", entry.Name())
		for i := range d.servers {
			fmt.Fprintln(&all, described(&d.servers[i]))
		}
		for _, note := range d.notes {
			fmt.Fprintln(&all, "note", note)
		}
		for _, mistake := range d.mistakes {
			fmt.Fprintln(&all, "mistake", mistake)
		}
		for _, told := range append(d.notes, fmt.Sprint(d.mistakes)) {
			for _, secret := range secretsOf(d) {
				require.NotContains(t, told, secret, entry.Name())
			}
		}
	}
	golden := filepath.Join("testdata", "client-files.golden")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(all.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), all.String())
}

// described is a server in one line.
func described(s *server) string {
	words := []string{"server", s.name, s.transport, s.url, s.command}
	words = append(words, s.args...)
	for _, pairs := range []map[string]string{s.env, s.headers} {
		for _, name := range slices.Sorted(maps.Keys(pairs)) {
			words = append(words, name+"="+pairs[name])
		}
	}
	if s.disabled != nil {
		words = append(words, fmt.Sprintf("disabled=%v", *s.disabled))
	}
	if s.description != "" {
		words = append(words, fmt.Sprintf("%q", s.description))
	}
	return strings.Join(slices.DeleteFunc(words, func(word string) bool { return word == "" }), " ")
}

// secretsOf are the values that a file's servers have.
func secretsOf(d *desired) []string {
	var all []string
	for i := range d.servers {
		all = slices.AppendSeq(all, maps.Values(d.servers[i].env))
		all = slices.AppendSeq(all, maps.Values(d.servers[i].headers))
	}
	return slices.DeleteFunc(all, func(value string) bool { return len(value) < len("secret") })
}
