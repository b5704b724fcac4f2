// Package version has the version and the commit of the running program.
//
// A release sets all of it with -ldflags "-X". Any other build takes the data that the go command
// writes into each binary: the version of the module, and the commit of the working copy.
package version

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"strings"
)

// Set at build time: -ldflags "-X vault-plugin-secrets-mcp/backend/version.number=v1.2.3".
var (
	number string // a semantic version with v, as Vault's plugin catalog wants it
	commit string // the revision in full
	date   string // of the commit, RFC 3339 in UTC
)

// unknown is the version of a build that nothing is known of.
const unknown = "v0.0.0-dev"

// Number returns the version as the plugin catalog has it, such as "v1.2.3".
func Number() string { return current().number }

// String returns the version, and in brackets the commit, its date and Go's version. The version is
// the first word.
func String() string { return current().String() }

// build is one build of the programs.
type build struct {
	number, commit, date, goVersion string
	modified                        bool // the working copy differed from the commit
}

func current() build {
	b := build{}
	if info, ok := debug.ReadBuildInfo(); ok {
		b = read(info)
	}
	if commit != "" { // a release sets all of it
		b.commit, b.date, b.modified = commit, date, false
	}
	b.number = cmp.Or(number, b.number, unknown)
	return b
}

// read takes the data of the go command.
func read(info *debug.BuildInfo) build {
	b := build{goVersion: info.GoVersion}
	if v := info.Main.Version; strings.HasPrefix(v, "v") { // not "(devel)"
		b.number = v
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.commit = setting.Value
		case "vcs.time":
			b.date = setting.Value
		case "vcs.modified":
			b.modified = setting.Value == "true"
		}
	}
	return b
}

func (b build) String() string {
	var known []string
	if b.commit != "" {
		text := "commit " + b.commit
		if b.modified {
			text += " with changes"
		}
		known = append(known, text)
	}
	for _, text := range []string{b.date, b.goVersion} {
		if text != "" {
			known = append(known, text)
		}
	}
	if len(known) == 0 {
		return b.number
	}
	return fmt.Sprintf("%s (%s)", b.number, strings.Join(known, ", "))
}
