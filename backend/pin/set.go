package pin

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// Approval is a digest that somebody approved for a kind and a name.
type Approval struct {
	Kind   Kind
	Name   string
	Digest Digest
}

// Set is all approvals of one server. It does not change. A nil Set approves nothing.
type Set struct {
	digests   map[Kind]map[string][]Digest
	templates []template
	id        Digest
}

// NewSet makes a set of digests by kind and name. A name without digests is not in it.
func NewSet(digests map[Kind]map[string][]Digest) *Set {
	s := &Set{digests: map[Kind]map[string][]Digest{}}
	for kind, names := range digests {
		for name, list := range names {
			if len(list) == 0 {
				continue
			}
			if s.digests[kind] == nil {
				s.digests[kind] = map[string][]Digest{}
			}
			list = slices.Clone(list)
			slices.SortFunc(list, Digest.Compare)
			s.digests[kind][name] = slices.Compact(list)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.digests[Template])) {
		if t, ok := compileTemplate(name); ok {
			s.templates = append(s.templates, t)
		}
	}
	hash := sha256.New()
	for a := range s.All() {
		// In ASCII, since the engine and a gateway may have been built with other versions of Unicode.
		fmt.Fprintf(hash, "%s %+q %s\n", a.Kind, a.Name, a.Digest)
	}
	hash.Sum(s.id[:0])
	return s
}

// Approves reports whether a digest is approved for the kind and the name.
func (s *Set) Approves(kind Kind, name string, d Digest) bool {
	return s != nil && slices.Contains(s.digests[kind][name], d)
}

// Has reports whether some digest is approved for the kind and the name.
func (s *Set) Has(kind Kind, name string) bool {
	return s != nil && len(s.digests[kind][name]) > 0
}

// All has the approvals in one order: by kind as [Kinds] has them, by name, by digest.
func (s *Set) All() iter.Seq[Approval] {
	return func(yield func(Approval) bool) {
		if s == nil {
			return
		}
		for _, kind := range Kinds() {
			for _, name := range slices.Sorted(maps.Keys(s.digests[kind])) {
				for _, digest := range s.digests[kind][name] {
					if !yield(Approval{kind, name, digest}) {
						return
					}
				}
			}
		}
	}
}

// ID is a digest of the whole set: two sets with one ID approve the same.
func (s *Set) ID() string {
	if s == nil {
		return NewSet(nil).ID()
	}
	return s.id.String()
}

// MarshalJSON writes the digests by kind and name: {"tool":{"search":["sha256:…"]}}.
func (s *Set) MarshalJSON() ([]byte, error) {
	if s == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(s.digests)
}

// UnmarshalJSON is the inverse of MarshalJSON. Only the decoder may call it, before the
// set is shared.
func (s *Set) UnmarshalJSON(data []byte) error {
	digests := map[Kind]map[string][]Digest{}
	if err := json.Unmarshal(data, &digests); err != nil {
		return err
	}
	for kind := range digests {
		if _, err := ParseKind(string(kind)); err != nil {
			return err
		}
	}
	*s = *NewSet(digests)
	return nil
}
