package commandline

import (
	"context"
	"embed"
	"flag"
	"strings"
)

// askForCandidates is the first argument with which the shells' scripts ask a program for
// completions of the last argument. People do not type it, so no help has it.
const askForCandidates = "__complete"

// The answers of a program where an argument is a file or a folder: the shell completes
// those.
const (
	offerFiles   = ":files"
	offerFolders = ":folders"
)

//go:embed shells
var shells embed.FS

// completion is the command that prints the shells' scripts.
func (p *Program) completion() Command {
	group := Command{
		Name: "completion", Summary: "print the script with which a shell completes commands, flags and their values",
		About: "Packages install these. Without a package, for one shell and for all that start later:\n\n" +
			"  bash  source <(" + p.Name + " completion bash), in ~/.bashrc\n" +
			"  zsh   source <(" + p.Name + " completion zsh), in ~/.zshrc behind compinit\n" +
			"  fish  " + p.Name + " completion fish > ~/.config/fish/completions/" + p.Name + ".fish",
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		group.Commands = append(group.Commands, Command{
			Name: shell, Summary: "print the completion for " + shell,
			Setup: func(*Flags) Run {
				return func(_ context.Context, _ []string, out Streams) error {
					script, err := shells.ReadFile("shells/" + shell)
					if err != nil {
						return err
					}
					// A function's name has no hyphen in every shell.
					_, err = strings.NewReplacer("PROGRAM", p.Name, "FUNCTION", strings.ReplaceAll(p.Name, "-", "_")).
						WriteString(out.Stdout, string(script))
					return err
				}
			},
		})
	}
	return group
}

// candidates are the possible completions of the last word, each with its purpose after
// a tab.
func (p *Program) candidates(words []string) []string {
	words = joined(words)
	if len(words) == 0 {
		return nil
	}
	before, current := words[:len(words)-1], words[len(words)-1]
	path, command, rest, _ := find(p.Root(), before)
	flags := command.Flags(path)
	for i := 0; i < len(rest); i++ {
		switch {
		case rest[i] == "--":
			return nil // only names follow
		case !flags.takesNext(rest[i]):
		case i+1 < len(rest):
			i++
		default:
			return flags.valuesFor(rest[i], "", current)
		}
	}
	if name, value, ok := strings.Cut(current, "="); ok && strings.HasPrefix(name, "-") {
		return flags.valuesFor(name, name+"=", value)
	}
	var found []string
	offer := func(word, text string) {
		if strings.HasPrefix(word, current) {
			found = append(found, word+"\t"+text)
		}
	}
	if len(rest) == 0 {
		for _, one := range command.Commands {
			offer(one.Name, one.Summary)
		}
	}
	if strings.HasPrefix(current, "-") || len(found) == 0 && !flags.takes {
		dashes := "-"
		if strings.HasPrefix(current, "--") {
			dashes = "--"
		}
		flags.VisitAll(func(one *flag.Flag) {
			_, text := flag.UnquoteUsage(one)
			offer(dashes+one.Name, text)
		})
	}
	return found
}

// valuesFor are the values that a flag may have. A lead is put before each: the text
// before the value in the same word.
func (f *Flags) valuesFor(written, lead, current string) []string {
	may := f.values[strings.TrimLeft(written, "-")]
	if may.kind != "" {
		return []string{may.kind}
	}
	var found []string
	for _, word := range may.words {
		if strings.HasPrefix(word, current) {
			found = append(found, lead+word)
		}
	}
	return found
}

// joined puts words together that bash parts at a sign of equality.
func joined(words []string) []string {
	var whole []string
	for i := 0; i < len(words); i++ {
		if words[i] == "=" && len(whole) > 0 && strings.HasPrefix(whole[len(whole)-1], "-") {
			if i+1 == len(words) {
				return append(whole, "") // the value is not begun
			}
			if i+2 == len(words) {
				return append(whole, words[i+1])
			}
			whole[len(whole)-1] += "=" + words[i+1]
			i++
			continue
		}
		whole = append(whole, words[i])
	}
	return whole
}
