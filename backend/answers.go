package backend

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
)

// userError is a mistake of the caller's: its text goes out with status 400.
// Every other error is the engine's or the storage's, and Vault makes it a 500.
// Neither may hold a token: Vault writes error texts to its audit log in clear.
type userError string

// Error returns the text for the caller.
func (e userError) Error() string { return string(e) }

func userErrorf(format string, args ...any) error {
	return userError(fmt.Sprintf(format, args...))
}

// refused turns an error of package check about a name into a userError.
func refused(err error) error {
	if err == nil {
		return nil
	}
	return userError(err.Error())
}

// refusedAll turns the findings of package check into one userError.
func refusedAll(problems check.Problems) error {
	if len(problems) == 0 {
		return nil
	}
	texts := make([]string, 0, len(problems))
	for _, p := range problems {
		texts = append(texts, p.Error())
	}
	return userError(strings.Join(texts, "; "))
}

// refusedAfter is refusedAll for the effects of a write, which the notes describe.
func refusedAfter(problems check.Problems, notes []string) error {
	err := refusedAll(problems)
	if err == nil || len(notes) == 0 {
		return err
	}
	return userErrorf("%s (%s)", err, strings.Join(notes, "; "))
}

// notFound is the answer about something that does not exist, with status 404.
// Vault writes its text to the audit log in clear, so no token may be in it.
func notFound(err error) error {
	return logical.CodedError(http.StatusNotFound, err.Error())
}

func noSuchClient(name string) error {
	return userErrorf("no client %q exists: correct the name, or create it by writing clients/%s", name, name)
}

// checkStillThere refuses a write whose ACL check was made for the wrong capability: before
// the engine holds any lock, Vault asks whether the entry exists, and so chooses between
// create and update.
func checkStillThere(req *logical.Request, exists bool, what, name string) error {
	switch {
	case req.Operation == logical.CreateOperation && exists:
		return userErrorf("the %s %q exists already: somebody else has just created it; read it, and write again to change it", what, name)
	case req.Operation == logical.UpdateOperation && !exists:
		return userErrorf("the %s %q does not exist any more: somebody else has just deleted it; write again to create it", what, name)
	}
	return nil
}

// warned is the answer of a write that has at most warnings.
func warned(warnings []string) *logical.Response {
	if len(warnings) == 0 {
		return nil
	}
	return &logical.Response{Warnings: warnings}
}

// sendAs is the form in which a client sends its token. It does not repeat the token: the
// answer has it already or, if it came encrypted, must not have it.
const sendAs = "Authorization: Bearer <token>"

// answerSize is room for the fields of a lookup's answer, the largest one about a token.
// Growing the map would take longer than the rest of the lookup.
const answerSize = 28

// tokenData returns the public fields of a token, with room for more.
func tokenData(client, clientID string, info *tokenInfo, now time.Time) map[string]any {
	data := make(map[string]any, answerSize)
	data["client"] = client
	data["client_id"] = clientID
	data["accessor"] = info.Accessor
	data["kind"] = string(info.Kind)
	data["issued_at"] = formatTime(info.IssuedAt)
	data["expires_at"] = formatTime(info.ExpiresAt)
	data["ttl"] = seconds(info.ttl(now))
	return data
}

// nullUnset returns the fields of a read's answer, in which every unset field is null. Otherwise
// a terminal would show an unset string, map and list in three ways. An empty list is set.
func nullUnset(data map[string]any) map[string]any {
	for name, value := range data {
		if pairs, ok := value.(map[string]string); value == "" || ok && len(pairs) == 0 {
			data[name] = nil
		}
	}
	return data
}

// seconds is how Vault's APIs state durations.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// formatTime returns t as Vault writes times, and "" for the zero time.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// with returns data with more entries.
func with(data, more map[string]any) map[string]any {
	maps.Copy(data, more)
	return data
}

// orEmpty returns a list that is never null in JSON.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// listOrNull is for a list that restricts nothing if it is null, and everything if it is empty.
func listOrNull(list []string) any {
	if list == nil {
		return nil
	}
	return list
}

// copyOf returns a copy that is an object in JSON, never null.
func copyOf(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}

// pairsOrNull is for pairs that say the same if there are none and if they are unset.
func pairsOrNull(m map[string]string) any {
	if len(m) == 0 {
		return nil
	}
	return maps.Clone(m)
}

func sortedKeys[V any](m map[string]V) []string {
	return orEmpty(slices.Sorted(maps.Keys(m)))
}

// someOf names a few of many, for a sentence.
func someOf(what string, names []string) string {
	const shown = 5
	if len(names) == 1 {
		return fmt.Sprintf("the %s %s", what, names[0])
	}
	list := strings.Join(names[:min(shown, len(names))], ", ")
	if extra := len(names) - shown; extra > 0 {
		list = fmt.Sprintf("%s and %d more", list, extra)
	}
	return fmt.Sprintf("%d %ss (%s)", len(names), what, list)
}

func plural(names []string, one, many string) string {
	if len(names) == 1 {
		return one
	}
	return many
}

// table aligns rows for people, without spaces at their ends.
func table(rows [][]string) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // a builder takes everything
	return strings.TrimSuffix(text.String(), "\n")
}
