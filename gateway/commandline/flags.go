package commandline

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Flags are a command's flags, as its Setup defines them.
type Flags struct {
	*flag.FlagSet
	command   *Command
	run       Run
	takes     bool // names beside flags
	required  []string
	fallbacks []fallback
	values    map[string]values
	checks    []func(names []string) []string
}

// fallback is where the value of a flag comes from that is not given.
type fallback struct {
	name  string
	value func() string
}

// values are the possible values of a flag: one of some words, a file or a folder.
type values struct {
	words []string
	kind  string
}

// Flags defines the flags of a command. The path is the names that lead to it, and its own.
func (c *Command) Flags(path string) *Flags {
	f := &Flags{FlagSet: flag.NewFlagSet(path, flag.ContinueOnError), command: c, values: map[string]values{}}
	f.SetOutput(io.Discard)
	f.Usage = func() {} // the flag set asks for it after a mistake, too
	if c.Setup != nil {
		f.run = c.Setup(f)
	}
	return f
}

// Require names flags that must be given.
func (f *Flags) Require(names ...string) { f.required = append(f.required, names...) }

// Fallback says where the value of a flag that is not given comes from. It is asked when
// the command runs, so that help and the manual page are the same on every machine.
func (f *Flags) Fallback(name string, value func() string) {
	f.fallbacks = append(f.fallbacks, fallback{name, value})
}

// OneOf defines a flag whose value must be one of some words.
func (f *Flags) OneOf(to *string, name, otherwise string, words []string, usage string) {
	f.StringVar(to, name, otherwise, usage+", one of: "+strings.Join(words, ", "))
	f.Words(name, words...)
	f.Check(func([]string) []string {
		if *to == otherwise || slices.Contains(words, *to) {
			return nil
		}
		return []string{fmt.Sprintf("there is no -%s %s: take one of %s", name, *to, strings.Join(words, ", "))}
	})
}

// Words says which values completion offers for a flag.
func (f *Flags) Words(name string, words ...string) { f.values[name] = values{words: words} }

// Files says that the values of flags are files.
func (f *Flags) Files(names ...string) { f.places(offerFiles, names) }

// Folders says that the values of flags are folders.
func (f *Flags) Folders(names ...string) { f.places(offerFolders, names) }

func (f *Flags) places(kind string, names []string) {
	for _, name := range names {
		f.values[name] = values{kind: kind}
	}
}

// TakesNames says that the command takes arguments that are not flags.
func (f *Flags) TakesNames() { f.takes = true }

// Check adds a check of the arguments. It returns all mistakes, a text for each.
func (f *Flags) Check(check func(names []string) []string) { f.checks = append(f.checks, check) }

// parse reads a command's arguments: flags and names, in any order. The error has all
// mistakes, a line for each.
func (f *Flags) parse(args []string) (names []string, err error) {
	flagged, names := f.sort(args)
	if err := f.Parse(flagged); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, f.mistakes(f.explain(err))
	}
	given := map[string]bool{}
	f.Visit(func(one *flag.Flag) { given[one.Name] = true })
	for _, one := range f.fallbacks {
		if !given[one.name] {
			if err := f.Set(one.name, one.value()); err != nil {
				return nil, fmt.Errorf("%s: -%s: %w", f.Name(), one.name, err)
			}
		}
	}
	var wrong []string
	if len(names) > 0 && !f.takes {
		wrong = append(wrong, fmt.Sprintf("it takes no argument %q", names[0]))
	}
	for _, name := range f.required {
		if one := f.Lookup(name); one.Value.String() == "" {
			what, text := flag.UnquoteUsage(one)
			wrong = append(wrong, fmt.Sprintf("-%s %s is missing: %s", name, strings.ToUpper(what), text))
		}
	}
	for _, check := range f.checks {
		wrong = append(wrong, check(names)...)
	}
	if len(wrong) > 0 {
		return nil, f.mistakes(wrong...)
	}
	return names, nil
}

func (f *Flags) mistakes(all ...string) error {
	lines := make([]error, 0, len(all))
	for _, one := range all {
		lines = append(lines, fmt.Errorf("%s: %s", f.Name(), one))
	}
	return errors.Join(lines...)
}

// explain adds to a mistake about flags which flags there are.
func (f *Flags) explain(err error) string {
	if !strings.Contains(err.Error(), "not defined") {
		return err.Error()
	}
	var names []string
	f.VisitAll(func(one *flag.Flag) { names = append(names, "-"+one.Name) })
	if len(names) == 0 {
		return err.Error() + "; there are none"
	}
	_, wrong, _ := strings.Cut(err.Error(), ": ")
	return fmt.Sprintf("%v; there are %s%s", err, strings.Join(names, ", "), near(wrong, names))
}

// sort parts arguments into flags with their values, and names. After -- all are names.
func (f *Flags) sort(args []string) (flagged, names []string) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return flagged, append(names, args[i+1:]...)
		case arg == "help" && len(names) == 0:
			flagged = append(flagged, "-help")
		case len(arg) > 1 && arg[0] == '-':
			flagged = append(flagged, arg)
			if f.takesNext(arg) && i+1 < len(args) {
				i++
				flagged = append(flagged, args[i])
			}
		default:
			names = append(names, arg)
		}
	}
	return flagged, names
}

// takesNext reports whether the value of a flag is the argument behind it.
func (f *Flags) takesNext(arg string) bool {
	one := f.Lookup(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"))
	// A flag that is not known may have its value behind a sign of equality.
	return one != nil && !isSwitch(one)
}

// isSwitch reports whether a flag needs no value.
func isSwitch(one *flag.Flag) bool {
	value, ok := one.Value.(interface{ IsBoolFlag() bool })
	return ok && value.IsBoolFlag()
}
