package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"iter"
	"slices"
	"strings"
)

// Source is one policy with the data that merging needs.
type Source struct {
	// Name is the policy's, for the explanation of a decision.
	Name string `json:"name"`
	// Managed policies apply to every client, and only they can lock.
	Managed bool `json:"managed"`
	// Missing marks a policy that a client names and that does not exist (any
	// more). It blocks everything, since the policy may have had denials.
	Missing bool `json:"missing,omitempty"`
	// Policy is the document as it was written.
	Policy Document `json:"policy"`
}

// Applying picks, out of all policies, those that apply to a client that names some: these and
// every managed one. A named policy that does not exist is Missing.
func Applying(all iter.Seq[Source], names []string) []Source {
	var sources []Source
	found := map[string]bool{}
	for source := range all {
		named := slices.Contains(names, source.Name)
		if source.Managed || named {
			sources = append(sources, source)
		}
		found[source.Name] = found[source.Name] || named
	}
	for _, name := range names {
		if !found[name] {
			sources = append(sources, Source{Name: name, Missing: true})
		}
	}
	return sources
}

// canonical returns the sources in the one order that all orders of sources
// and of entries come down to, each entry once. It shares nothing that changes
// with its argument.
func canonical(sources []Source) []Source {
	sorted := slices.Clone(sources)
	for i := range sorted {
		sorted[i].Policy.Allowed = canonicalEntries(sorted[i].Policy.Allowed)
		sorted[i].Policy.Denied = canonicalEntries(sorted[i].Policy.Denied)
	}
	slices.SortFunc(sorted, func(a, b Source) int {
		if order := strings.Compare(a.Name, b.Name); order != 0 {
			return order
		}
		return strings.Compare(a.text(), b.text())
	})
	return slices.CompactFunc(sorted, func(a, b Source) bool { return a.text() == b.text() })
}

func canonicalEntries(entries []Entry) []Entry {
	if entries == nil {
		return nil
	}
	sorted := append([]Entry{}, entries...)
	slices.SortFunc(sorted, func(a, b Entry) int { return strings.Compare(a.String(), b.String()) })
	return slices.CompactFunc(sorted, func(a, b Entry) bool { return a.String() == b.String() })
}

// text returns the source's JSON form.
func (s *Source) text() string {
	text, err := encode(s)
	if err != nil {
		return err.Error() // strings and booleans always have a JSON form
	}
	return string(text)
}

// digest names a set of canonical sources: hexadecimal SHA-256, or empty if
// there are none.
func digest(sources []Source) string {
	if len(sources) == 0 {
		return ""
	}
	hash := sha256.New()
	for i := range sources {
		hash.Write([]byte(sources[i].text() + "\n"))
	}
	return hex.EncodeToString(hash.Sum(nil))
}
