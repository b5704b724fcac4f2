package commandline_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/commandline"
	"vault-plugin-secrets-mcp/gateway/commandline/commandlinetest"
)

// boat is a program with everything that a table can have.
func boat() *commandline.Program {
	sail := func(flags *commandline.Flags) commandline.Run {
		var to, wind, log string
		flags.StringVar(&to, "to", "", "the `port`")
		flags.OneOf(&wind, "wind", "calm", []string{"calm", "storm"}, "the `wind`")
		flags.StringVar(&log, "log", "", "the log, a `file` (default: BOAT_LOG)")
		night := flags.Bool("night", false, "by night, too")
		flags.Require("to")
		flags.Fallback("log", func() string { return "from elsewhere" })
		flags.Files("log")
		return func(_ context.Context, _ []string, out commandline.Streams) error {
			_, err := fmt.Fprintln(out.Stdout, to, wind, log, *night)
			return err
		}
	}
	load := func(flags *commandline.Flags) commandline.Run {
		hold := flags.String("hold", "", "a folder, `where` to")
		flags.Folders("hold")
		flags.TakesNames()
		return func(_ context.Context, names []string, out commandline.Streams) error {
			_, err := fmt.Fprintf(out.Stdout, "%q %s\n", names, *hold)
			return err
		}
	}
	sink := func(err error) func(*commandline.Flags) commandline.Run {
		return func(*commandline.Flags) commandline.Run {
			return func(context.Context, []string, commandline.Streams) error { return err }
		}
	}
	return &commandline.Program{
		Command: commandline.Command{
			Name: "boat", Summary: "move on water", About: ".begins with a dot\nand has a \\",
			Commands: []commandline.Command{
				{Name: "sail", Summary: "go somewhere", Arguments: "-to PORT", Setup: sail},
				{Name: "load-up", Summary: "take things in", Arguments: "[THING…]", Setup: load},
				{Name: "end", Summary: "be no more", Commands: []commandline.Command{
					{Name: "loud", Summary: "tell it", Setup: sink(errors.New("water comes in"))},
					{Name: "silent", Summary: "tell nobody else", Setup: sink(commandline.ErrReported)},
				}},
			},
		},
		Version:     func() string { return "v1" },
		Environment: []commandline.Variable{{Name: "BOAT_LOG", Text: "The log."}},
		See:         []string{"ship(1)", "raft(7)"},
	}
}

func TestATableGivesHelpCompletionAndAPage(t *testing.T) { commandlinetest.Check(t, boat) }

func TestArgumentsAreReadInEveryOrder(t *testing.T) {
	for _, test := range []struct {
		args           string
		status         int
		stdout, stderr string
	}{
		{"sail -to Rome", 0, "Rome calm from elsewhere false\n", ""},
		{"sail --to=Rome --night -wind storm -log x", 0, "Rome storm x true\n", ""},
		{"sail -to Rome -log=", 0, "Rome calm  false\n", ""},
		{"load-up rope -hold low sails", 0, `["rope" "sails"] low` + "\n", ""},
		{"load-up -hold low -- -rope help", 0, `["-rope" "help"] low` + "\n", ""},
		{"load-up rope help", 0, `["rope" "help"] ` + "\n", ""},
		{"version", 0, "v1\n", ""},
		{"-v", 0, "v1\n", ""},

		{"", 2, "", "Usage: boat COMMAND"},
		{"end", 2, "", "Usage: boat end loud\n       boat end silent\n"},
		{"sial", 2, "", `boat: there is no command "sial"; did you mean sail?` + "\n\nUsage: boat COMMAND"},
		{"end silnt", 2, "", `boat end: there is no command "silnt"; did you mean silent?`},
		{"help sial", 2, "", `there is no command "sial"; did you mean sail?`},
		{"fly", 2, "", `boat: there is no command "fly"` + "\n"},
		{"-fast", 2, "", `boat: there is no command "-fast"`},
		{"sail -nigt", 2, "", "boat sail: flag provided but not defined: -nigt; there are -log, -night, -to, -wind; did you mean -night?\nSee `boat sail -help`.\n"},
		{"sail --fast", 2, "", "not defined: -fast; there are -log, -night, -to, -wind\n"},
		{"version -x", 2, "", "not defined: -x; there are none\n"},
		{"version x", 2, "", `boat version: it takes no argument "x"`},
		{"sail -wind fair x", 2, "", `boat sail: it takes no argument "x"` + "\nboat sail: -to PORT is missing: the port\nboat sail: there is no -wind fair: take one of calm, storm\n"},
		{"sail -to", 2, "", "boat sail: flag needs an argument: -to\n"},
		{"sail -night=often -to x", 2, "", `boat sail: invalid boolean value "often" for -night`},
		{"completion tcsh", 2, "", `there is no command "tcsh"`},
		{"end loud", 1, "", "boat: water comes in\n"},
		{"end silent", 1, "", ""},
	} {
		t.Run(test.args, func(t *testing.T) {
			var stdout, stderr strings.Builder
			status := boat().Main(t.Context(), strings.Fields(test.args), commandline.Streams{Stdout: &stdout, Stderr: &stderr})
			require.Equal(t, test.status, status, stderr.String())
			require.Equal(t, test.stdout, stdout.String())
			require.Contains(t, stderr.String(), test.stderr)
			if test.stderr == "" {
				require.Empty(t, stderr.String())
			}
		})
	}
}

func TestCompletionOffersWhatMayStandThere(t *testing.T) {
	for _, test := range []struct {
		words []string
		want  string
	}{
		{nil, ""},
		{[]string{"l"}, "load-up"},
		{[]string{"e"}, "end"},
		{[]string{"end", ""}, "loud silent"},
		{[]string{"help", "end", "s"}, "silent"},
		{[]string{"none", ""}, ""},
		{[]string{"sail", ""}, "-log -night -to -wind"},
		{[]string{"sail", "--n"}, "--night"},
		{[]string{"sail", "-to", "Rome", "-w"}, "-wind"},
		{[]string{"sail", "-to", ""}, ""},
		{[]string{"sail", "-wind", ""}, "calm storm"},
		{[]string{"sail", "--wind", "s"}, "storm"},
		{[]string{"sail", "-wind=s"}, "-wind=storm"},
		{[]string{"sail", "-wind", "=", "s"}, "storm"},
		{[]string{"sail", "-wind", "="}, "calm storm"},
		{[]string{"sail", "-to", "=", "Rome", "-wind", "=", "c"}, "calm"},
		{[]string{"sail", "-night", "-l"}, "-log"},
		{[]string{"sail", "-log", "x"}, ":files"},
		{[]string{"sail", "-log=x"}, ":files"},
		{[]string{"load-up", "-hold", ""}, ":folders"},
		{[]string{"load-up", ""}, ""},
		{[]string{"load-up", "rope", "-"}, "-hold"},
		{[]string{"load-up", "--", "-"}, ""},
	} {
		t.Run(strings.Join(test.words, " "), func(t *testing.T) {
			var stdout strings.Builder
			status := boat().Main(t.Context(), append([]string{"__complete"}, test.words...), commandline.Streams{Stdout: &stdout})
			require.Equal(t, commandline.ExitOK, status)
			var found []string
			for line := range strings.Lines(stdout.String()) {
				word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
				found = append(found, word)
			}
			require.Equal(t, test.want, strings.Join(found, " "))
		})
	}
}

func TestThePageHasNothingThatTroffTakesForARequest(t *testing.T) {
	var page strings.Builder
	require.NoError(t, boat().Man(&page))
	require.Contains(t, page.String(), "\n\\&.begins with a dot\nand has a \\e\n")
	require.Contains(t, page.String(), ".BR ship (1),\n.BR raft (7)\n")
}
