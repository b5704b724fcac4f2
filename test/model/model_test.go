package model

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/doctable"
)

const (
	models = "../../model"
	page   = "../../docs/model.md"

	// bound is how long one check may take.
	bound = 2 * time.Minute
)

// checked are the models with their bounds, as the page has them.
func checked(t *testing.T, heading string) [][]string {
	t.Helper()
	rows, err := doctable.Read(page, heading)
	require.NoError(t, err)
	require.NotEmpty(t, rows)
	return rows
}

func needSpin(t *testing.T) {
	t.Helper()
	for _, program := range []string{"spin", "cc", "patch"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("TEST_FIELD") == "required" {
				t.Fatalf("%s is missing: scripts/field.sh install model", program)
			}
			t.Skipf("%s is missing: scripts/field.sh install model", program)
		}
	}
}

// searchUnchanged searches a model as it is.
func searchUnchanged(t *testing.T, name string, bounds []string) result {
	t.Helper()
	folder := t.TempDir()
	copyModel(t, name, folder)
	return search(t, folder, name, bounds)
}

// TestTheModelsKeepTheirPromises searches every state of each model.
func TestTheModelsKeepTheirPromises(t *testing.T) {
	needSpin(t)
	for _, row := range checked(t, "## Bounds") {
		name, bounds := doctable.Names(row[0])[0], doctable.Names(row[1])
		t.Run(name+" "+strings.Join(bounds, " "), func(t *testing.T) {
			t.Parallel()
			r := searchUnchanged(t, name, bounds)
			require.Empty(t, r.broken, r.output)
			t.Logf("%d states, depth %d, %s", r.states, r.depth, r.took.Round(100*time.Millisecond))
		})
	}
}

// TestEveryMistakeBreaksItsPromise applies each patch to a copy of its model.
func TestEveryMistakeBreaksItsPromise(t *testing.T) {
	needSpin(t)
	mistakes, err := filepath.Glob(filepath.Join(models, "mutations", "*.patch"))
	require.NoError(t, err)
	require.NotEmpty(t, mistakes)
	for _, path := range mistakes {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".patch"), func(t *testing.T) {
			t.Parallel()
			patch, err := os.ReadFile(path)
			require.NoError(t, err)
			name, bounds, breaks := headerOf(t, string(patch))
			folder := t.TempDir()
			copyModel(t, name, folder)
			run(t, folder, "patch", "-s", "-p1", "-F0", "-i", source(t, filepath.Join("mutations", filepath.Base(path))))
			r := search(t, folder, name, bounds)
			require.Equal(t, breaks, r.broken, r.output)
			t.Logf("%d states, depth %d, %s", r.states, r.depth, r.took.Round(100*time.Millisecond))
		})
	}
}

// TestTheLimitsAreWhereThePageSays: things that the page calls not promised do not hold
// in the model.
func TestTheLimitsAreWhereThePageSays(t *testing.T) {
	needSpin(t)
	for _, row := range checked(t, "## Limits") {
		name, bounds := doctable.Names(row[0])[0], doctable.Names(row[1])
		t.Run(name+" "+strings.Join(bounds, " "), func(t *testing.T) {
			t.Parallel()
			r := searchUnchanged(t, name, bounds)
			require.Equal(t, row[2], r.broken, r.output)
		})
	}
}

func copyModel(t *testing.T, name, folder string) {
	t.Helper()
	content, err := os.ReadFile(source(t, name))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, name+".pml"), content, 0o600))
}

// source returns the path of a file of the models.
func source(t *testing.T, name string) string {
	t.Helper()
	if filepath.Ext(name) == "" {
		name += ".pml"
	}
	path, err := filepath.Abs(filepath.Join(models, name))
	require.NoError(t, err)
	return path
}

// headerOf reads the text above a patch.
func headerOf(t *testing.T, patch string) (name string, bounds []string, breaks string) {
	t.Helper()
	line := func(field string) string {
		found := regexp.MustCompile(`(?m)^` + field + `: ?(.*)$`).FindStringSubmatch(patch)
		require.NotNil(t, found, "the patch has no line %q", field)
		return found[1]
	}
	return line("model"), strings.Fields(line("bounds")), line("breaks")
}

// result is the result of a search.
type result struct {
	broken string // the promise; "": none
	states int
	depth  int
	took   time.Duration
	output string
}

var (
	foundErrors = regexp.MustCompile(`depth reached (\d+), errors: (\d+)`)
	foundStates = regexp.MustCompile(`(?m)^\s*(\d+) states, stored`)
	failedLine  = regexp.MustCompile(`spin: \w+\.pml:(\d+), Error: assertion violated`)
	promise     = regexp.MustCompile(`/\* promise: (.*) \*/`)
)

// search has spin look at every state of the model in the folder.
func search(t *testing.T, folder, name string, bounds []string) result {
	t.Helper()
	began := time.Now()
	model := name + ".pml"
	run(t, folder, "spin", append(append([]string{"-a"}, bounds...), model)...)
	run(t, folder, "cc", "-w", "-O1", "-DSAFETY", "-DCOLLAPSE", "-DVECTORSZ=2048", "-o", "pan", "pan.c")
	output := run(t, folder, "./pan", "-m100000", "-w22")
	require.NotContains(t, output, "max search depth too small", "the search was cut")
	found, stored := foundErrors.FindStringSubmatch(output), foundStates.FindStringSubmatch(output)
	require.NotNil(t, found, output)
	require.NotNil(t, stored, output)
	r := result{took: time.Since(began), output: output}
	r.depth, _ = strconv.Atoi(found[1])
	r.states, _ = strconv.Atoi(stored[1])
	if found[2] == "0" {
		return r
	}
	r.output = run(t, folder, "spin", append(append([]string{"-t", "-p"}, bounds...), model)...)
	at := failedLine.FindStringSubmatch(r.output)
	require.NotNil(t, at, "%s\n%s", output, r.output)
	content, err := os.ReadFile(filepath.Join(folder, model))
	require.NoError(t, err)
	number, _ := strconv.Atoi(at[1])
	broken := promise.FindStringSubmatch(strings.Split(string(content), "\n")[number-1])
	require.NotNil(t, broken, "%s:%d has no promise", model, number)
	r.broken = broken[1]
	return r
}

// run runs a program in the folder, and returns its output.
func run(t *testing.T, folder, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	command := exec.CommandContext(ctx, program, args...)
	command.Dir = folder
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s %s:\n%s", program, strings.Join(args, " "), output)
	return string(output)
}
