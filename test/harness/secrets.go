package harness

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// shortest is the least length of a secret: a test's "x" would be found everywhere.
const shortest = 12

// begins is the length of a secret's beginning that few other texts share.
const begins = 4

// secrets are texts that must be in no log.
type secrets struct {
	mu     sync.Mutex
	seen   map[[shortest]byte][]string // by their beginnings
	begins map[[begins]byte]bool       // the beginnings; tokens share theirs
}

// tokenFields are the fields of the engine's API that hold a token.
var tokenFields = []string{"token", "access_token"}

func (s *secrets) addFrom(data Map) {
	for _, field := range tokenFields {
		if text, ok := data[field].(string); ok {
			s.add(text)
		}
	}
}

// add makes a text a secret, unless it is too short.
func (s *secrets) add(text string) {
	if len(text) < shortest {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen, s.begins = map[[shortest]byte][]string{}, map[[begins]byte]bool{}
	}
	s.begins[[begins]byte([]byte(text))] = true
	begin := [shortest]byte([]byte(text))
	if !slices.Contains(s.seen[begin], text) {
		s.seen[begin] = append(s.seen[begin], text)
	}
}

// in reports whether any secret is in the content, and does not name it. It looks for
// all secrets with the same beginning at once: a test may have thousands of tokens.
func (s *secrets) in(content []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for begin := range s.begins {
		for rest := content; ; rest = rest[1:] {
			at := bytes.Index(rest, begin[:])
			if at < 0 || len(rest) < at+shortest {
				break
			}
			rest = rest[at:]
			for _, text := range s.seen[[shortest]byte(rest)] {
				if bytes.HasPrefix(rest, []byte(text)) {
					return true
				}
			}
		}
	}
	return false
}

// trouble are texts that a log has only where a program fails.
var trouble = []string{"WARNING: DATA RACE", "panic: ", "fatal error: "}

// checkLogs fails the test if a log has a token, a race or a panic, or if an upstream has
// got a token.
func (h *Harness) checkLogs() {
	h.t.Helper()
	for _, path := range h.Logs() {
		content, err := os.ReadFile(path)
		if err != nil {
			h.t.Error(err)
			continue
		}
		if h.secrets.in(content) {
			h.t.Errorf("a token is in the log %s", path)
		}
		if h.leased.in(content) {
			h.t.Errorf("a leased secret is in the log %s", path)
		}
		for _, text := range trouble {
			if _, after, found := strings.Cut(string(content), text); found {
				h.t.Errorf("%s has %q:\n%.4000s", path, text, after)
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, upstream := range h.upstreams {
		for _, request := range upstream.Requests() {
			if h.secrets.in(request.wire()) {
				h.t.Errorf("an upstream has got a token: %s %s", request.Method, request.Path)
			}
		}
	}
}

// Logs are the paths of all logs so far, audit logs included.
func (h *Harness) Logs() []string {
	h.t.Helper()
	var logs []string
	err := filepath.WalkDir(h.Dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // storage comes and goes
		}
		if err == nil && !entry.IsDir() && filepath.Ext(path) == ".log" {
			logs = append(logs, path)
		}
		return err
	})
	if err != nil {
		h.t.Error(err)
	}
	slices.Sort(logs)
	return logs
}
