package policy

import (
	"slices"
	"strings"
	"unicode"
)

// ServersKey is where desktop programs keep servers.
const ServersKey = "mcpServers"

// AboutServers is the hint for a caller who sends servers with a policy.
const AboutServers = `"` + ServersKey + `" holds servers, which are no part of a policy: register each with a write to servers/NAME. ` +
	`To admit none, write {"allowedMcpServers": [], "allowManagedMcpServersOnly": true} as a managed policy`

// Settings are the names of a policy's settings.
func Settings() []string { return slices.Clone(settings) }

// AnySetting reports whether the fields hold a setting of a policy.
func AnySetting(fields map[string]any) bool {
	return slices.ContainsFunc(settings, func(name string) bool { _, ok := fields[name]; return ok })
}

// NearMiss returns the known name that a name was likely meant to be, but is not:
// the same except for case and signs (dryRun, dry-run), or with a few letters wrong.
// It is empty for names that are known, and for others.
func NearMiss(name string, known []string) string {
	if slices.Contains(known, name) {
		return ""
	}
	letters := bare(name)
	best, least := "", 0
	for _, k := range known {
		wanted := bare(k)
		if d := distance(letters, wanted); d <= tolerance(wanted) && (best == "" || d < least) {
			best, least = k, d
		}
	}
	return best
}

// bare is a name without the parts that people write in different ways.
func bare(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, name)
}

// tolerance is how many letters of a name may be wrong. Claude Code has settings
// whose names begin or end as a policy's do, such as managedMcpServers: none of
// them is as near as this.
func tolerance(name string) int {
	switch {
	case len(name) > 12:
		return 3
	case len(name) > 5:
		return 2
	default:
		return 1
	}
}

// distance is the number of letters that must be put in, left out, exchanged, or
// swapped with their neighbour to make b of a.
func distance(a, b string) int {
	if len(a) > 2*len(b)+2 {
		return len(a) // far, and not worth counting
	}
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
