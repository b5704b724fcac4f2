package check

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"vault-plugin-secrets-mcp/backend/token"
)

const (
	// defaultUsageDays is usage_days where it is not set.
	defaultUsageDays = 90

	// maxUsageDays bounds usage_days.
	maxUsageDays = 400

	// MaxToolName bounds the name of a tool in a report of usage, in bytes. MCP wants names
	// of at most 128 characters of ASCII (SEP-986).
	MaxToolName = 128

	// MaxReportRows bounds a report of usage: its tokens and tools, and the clients without
	// any.
	MaxReportRows = 4000

	// GatewayIDLength is the length of the id under which a gateway reports.
	GatewayIDLength = 16
)

// Day is a day in UTC, counted from the first of January 1970.
type Day int32

// secondsADay is the length of a day: UTC in Unix time has no other.
const secondsADay = 24 * 60 * 60

// DayOf returns the day of a time.
func DayOf(t time.Time) Day {
	return Day(t.Unix() / secondsADay) //nolint:gosec // in range for five million years
}

// ParseDay reads a day in the form 2026-11-30.
func ParseDay(text string) (Day, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a valid day: write it like 2026-11-30", text)
	}
	return DayOf(t), nil
}

// Start returns the beginning of the day.
func (d Day) Start() time.Time { return time.Unix(int64(d)*secondsADay, 0).UTC() }

// String returns the day as ParseDay reads it, and "" for the zero day, which stands for never.
func (d Day) String() string {
	if d == 0 {
		return ""
	}
	return d.Start().Format(time.DateOnly)
}

// GatewayID refuses a text that cannot be the id of a gateway.
func GatewayID(id string) error {
	if len(id) != GatewayIDLength || !token.IsID(id) {
		return fmt.Errorf("the id of a gateway has %d letters and digits, and this has not", GatewayIDLength)
	}
	return nil
}

// ToolName refuses names of tools that usage does not keep. Such a tool is counted under the
// tool "".
func ToolName(name string) error {
	switch {
	case len(name) > MaxToolName:
		return fmt.Errorf("the name of a tool is %d bytes long: at most %d are kept", len(name), MaxToolName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%q is not a valid name of a tool: only characters that can be printed are kept", name)
	}
	return nil
}

func checkUsageDays(p *Problems, days *int) {
	if days != nil && (*days < 0 || *days > maxUsageDays) {
		p.add("usage_days", "field usage_days: %d is not between 0 and %d", *days, maxUsageDays)
	}
}
