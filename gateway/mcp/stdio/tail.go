package stdio

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// tail is the end of a child's standard error, without secrets. It usually has the
// reason why the child cannot start.
type tail struct {
	secrets []string // values that it was started with

	mu    sync.Mutex
	lines []string
	bytes int
}

const (
	// maxTailLines and maxTailBytes bound it.
	maxTailLines = 20
	maxTailBytes = 4 << 10

	// minSecret is the least length of a value that may be a secret. Shorter ones
	// occur in ordinary words.
	minSecret = 6

	hidden = "[hidden]"
)

func newTail(v Values) *tail {
	l := &tail{}
	for _, value := range slices.Concat(slices.Collect(maps.Values(v.Env)), slices.Collect(maps.Values(v.Files)), v.Secrets) {
		for part := range strings.SplitSeq(value, "\n") {
			if part = strings.TrimRight(part, "\r"); len(part) >= minSecret {
				l.secrets = append(l.secrets, part)
			}
		}
	}
	slices.SortFunc(l.secrets, func(a, b string) int { return len(b) - len(a) }) // one may contain another
	return l
}

// Forms of secrets: values with a name of a secret, credentials as they are sent,
// tokens of well-known issuers, and long texts that look random.
var (
	namedSecret = regexp.MustCompile(`(?i)((?:pass(?:word|wd|phrase)?|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|credential|authorization|auth)[a-z0-9_-]*["']?\s*[:=]\s*)("[^"]*"|'[^']*'|(?:(?:bearer|basic|token)\s+)?[^\s,;&"']+)`)
	sentSecret  = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}`)
	urlSecret   = regexp.MustCompile(`(://)[^/\s@]+@`)
	madeSecret  = regexp.MustCompile(`\b(?:mcpt_|hvs\.|hvb\.|hvr\.|s\.|gh[pousr]_|github_pat_|glpat-|sk-|sk_|pk_|rk_|xox[a-z]-|AKIA|ASIA|AIza|eyJ|npm_|pypi-|dop_v1_)[A-Za-z0-9._/+=-]{8,}`)
	longText    = regexp.MustCompile(`[A-Za-z0-9_+=-]{24,}`)
)

// withoutSecrets hides the parts of the line that look like secrets.
func (l *tail) withoutSecrets(line string) string {
	for _, secret := range l.secrets {
		line = strings.ReplaceAll(line, secret, hidden)
	}
	line = namedSecret.ReplaceAllString(line, "${1}"+hidden)
	line = sentSecret.ReplaceAllString(line, "${1} "+hidden)
	line = urlSecret.ReplaceAllString(line, "${1}"+hidden+"@")
	line = madeSecret.ReplaceAllString(line, hidden)
	return longText.ReplaceAllStringFunc(line, func(text string) string {
		if random(text) {
			return hidden
		}
		return text
	})
}

// random reports whether a long text looks like a key: letters and digits, mixed.
func random(text string) bool {
	changes, digits := 0, 0
	kind := func(c byte) int {
		switch {
		case c >= '0' && c <= '9':
			return 1
		case c >= 'A' && c <= 'Z':
			return 2
		case c >= 'a' && c <= 'z':
			return 3
		}
		return 0
	}
	for i := range len(text) {
		if kind(text[i]) == 1 {
			digits++
		}
		if i > 0 && kind(text[i]) != kind(text[i-1]) {
			changes++
		}
	}
	return digits >= 3 && changes*4 >= len(text)
}

// withoutCut hides the beginning of a secret at the end of a line that was cut there.
func (l *tail) withoutCut(line string) string {
	for _, secret := range l.secrets {
		for end := len(line); ; {
			at := strings.LastIndex(line[:end], secret[:minSecret])
			if at < 0 {
				break
			}
			if strings.HasPrefix(secret, line[at:]) {
				line = line[:at] + hidden
				break
			}
			end = at + minSecret - 1
		}
	}
	return line
}

// add stores a line without its secrets, and returns that. A line that was cut may end in
// the middle of one.
func (l *tail) add(line []byte, cut bool) string {
	text := string(line)
	if cut {
		text = l.withoutCut(text)
	}
	text = l.withoutSecrets(text)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, text)
	l.bytes += len(text)
	for len(l.lines) > 1 && (len(l.lines) > maxTailLines || l.bytes > maxTailBytes) {
		l.bytes -= len(l.lines[0])
		l.lines = l.lines[1:]
	}
	return text
}

// text returns the lines.
func (l *tail) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}
