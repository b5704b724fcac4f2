package pins

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mau.fi/util/confusable"

	"vault-plugin-secrets-mcp/backend/pin"
)

// Wanted selects definitions of a server. If nothing is set: all.
type Wanted struct {
	Names  []string
	Kind   pin.Kind
	Digest *pin.Digest
}

func (w *Wanted) takes(e *Entry) bool {
	return (len(w.Names) == 0 || slices.Contains(w.Names, e.Name.Name)) && (w.Kind == "" || w.Kind == e.Kind) &&
		(w.Digest == nil || *w.Digest == e.Digest)
}

// Changes of a definition.
const (
	isNew     = "new"
	isChanged = "changed"
)

// Item is a definition with its differences from the approved one, if there is one.
type Item struct {
	Name

	Change   string   `json:"change"`
	Approved *Entry   `json:"approved,omitempty"` // the latest that was approved
	Reported *Entry   `json:"reported,omitempty"`
	Changes  []Change `json:"changes"`
	Notes    []string `json:"notes,omitempty"`

	// unseen: its whole text cannot be shown. wrong: its text is another's.
	unseen, wrong bool
}

// Choice has the selected reported definitions. Shown is a digest of their digests and of
// the server's place: an approval with it approves these and no others.
type Choice struct {
	Server string `json:"server"`
	Items  []Item `json:"items"`
	Shown  string `json:"shown"`

	// Already are those that were selected by name or digest, and that are approved
	// already.
	Already []Name `json:"already_approved,omitempty"`
}

// Choose compares the reported definitions that are wanted with the approved ones.
func (s *State) Choose(wanted *Wanted) (*Choice, error) {
	c := &Choice{Server: s.Server, Items: []Item{}}
	digests := map[pin.Kind]map[string][]pin.Digest{}
	alike := s.alike()
	for i := range s.Reported {
		e := &s.Reported[i]
		if !wanted.takes(e) {
			continue
		}
		c.Items = append(c.Items, s.item(e, alike))
		if digests[e.Kind] == nil {
			digests[e.Kind] = map[string][]pin.Digest{}
		}
		digests[e.Kind][e.Name.Name] = append(digests[e.Kind][e.Name.Name], e.Digest)
	}
	c.Shown = s.shown(pin.NewSet(digests))
	return c, s.account(c, wanted)
}

// account handles named definitions that are not in the choice: each is approved already, or an
// error.
func (s *State) account(c *Choice, wanted *Wanted) error {
	approved := func(name string) bool {
		found := false
		for i := range s.Approved {
			if e := &s.Approved[i]; wanted.takes(e) && (name == "" || e.Name.Name == name) {
				found = true
				if !slices.Contains(c.Already, e.Name) {
					c.Already = append(c.Already, e.Name)
				}
			}
		}
		return found
	}
	for _, name := range wanted.Names {
		if !slices.ContainsFunc(c.Items, func(it Item) bool { return it.Name.Name == name }) && !approved(name) {
			return fmt.Errorf("no definition that is called %s is reported of %s and not approved: `mcp-bootstrap pins list %[2]s` lists those that are%[3]s", quoted(name), s.Server, unnamed(name))
		}
	}
	if wanted.Digest != nil && len(c.Items)+len(c.Already) == 0 && !approved("") {
		return fmt.Errorf("no definition of %s with this digest is reported and not approved: "+
			"`vault write` of pins/%[1]s with approve=NAME, kind= and digest= approves one that nobody has seen", s.Server)
	}
	return nil
}

// unnamed is advice for who takes a kind for a name.
func unnamed(name string) string {
	if kind, err := pin.ParseKind(name); err == nil && !kind.Named() {
		return fmt.Sprintf(". A server's definition of kind %s has no name: give -kind %[1]s", kind)
	}
	return ""
}

// wasApproved reports whether all that a diff has shown was approved at once, and is still.
func (s *State) wasApproved(shown string) bool {
	at := map[time.Time]map[pin.Kind]map[string][]pin.Digest{}
	for i := range s.Approved {
		e := &s.Approved[i]
		if at[e.At] == nil {
			at[e.At] = map[pin.Kind]map[string][]pin.Digest{}
		}
		if at[e.At][e.Kind] == nil {
			at[e.At][e.Kind] = map[string][]pin.Digest{}
		}
		at[e.At][e.Kind][e.Name.Name] = append(at[e.At][e.Kind][e.Name.Name], e.Digest)
	}
	for _, digests := range at {
		if s.shown(pin.NewSet(digests)) == shown {
			return true
		}
	}
	return false
}

// shown is a digest of definitions and of the server's place: definitions that a person has
// seen at one place are not approved for another.
func (s *State) shown(set *pin.Set) string {
	return pin.Digest(sha256.Sum256([]byte(compact([]string{s.Server, s.Place, set.ID()})))).String()
}

// item compares a reported definition with the one that was approved last.
func (s *State) item(reported *Entry, alike map[Name][]Name) Item {
	it := Item{Name: reported.Name, Change: isNew, Reported: reported, Changes: []Change{}}
	for i := range s.Approved {
		if e := &s.Approved[i]; e.Name == reported.Name {
			it.Change, it.Approved = isChanged, e // the list is in the order of time
		}
	}
	s.note(&it, alike)
	before := ""
	if it.Approved != nil {
		if before = it.Approved.Text; before == "" {
			it.Notes = append(it.Notes, "The approved text is not kept, so all of the reported one is shown.")
		}
	}
	switch {
	case reported.Text == "":
		it.unseen = true
		it.Notes = append(it.Notes, fmt.Sprintf("Its text, of %d bytes, is not kept: read it at the server. It is approved by its -digest alone.", reported.Size))
	case !reported.genuine(), it.Approved != nil && before != "" && !it.Approved.genuine():
		it.wrong = true
		it.Notes = append(it.Notes, "A text in Vault is not the one that its digest is of, so it is not shown, and cannot be approved.")
	default:
		changes, err := Compare(before, reported.Text)
		if err != nil {
			it.wrong = true
			it.Notes = append(it.Notes, err.Error())
		}
		it.Changes = append(it.Changes, changes...)
	}
	return it
}

// genuine reports whether a text is the one that was approved or reported.
func (e *Entry) genuine() bool {
	d, err := pin.Read(e.Kind, []byte(e.Text))
	return err == nil && d.Digest == e.Digest && d.Name == e.Name.Name
}

// alike has all names by their looks.
func (s *State) alike() map[Name][]Name {
	all := map[Name][]Name{}
	for _, list := range [][]Entry{s.Approved, s.Reported} {
		for i := range list {
			name := list[i].Name
			if looks := name.looks(); !slices.Contains(all[looks], name) {
				all[looks] = append(all[looks], name)
			}
		}
	}
	return all
}

// looks is one name for all that look like this one (UTS 39, section 4).
func (n Name) looks() Name { return Name{n.Kind, confusable.Skeleton(n.Name)} }

// note adds the notes about a name.
func (s *State) note(it *Item, alike map[Name][]Name) {
	if slices.Contains(s.Frozen, it.Name) {
		it.Notes = append(it.Notes, "It is frozen: the server showed different definitions of it within the hour of trust_first.")
	}
	same := 0
	for i := range s.Reported {
		if s.Reported[i].Name == it.Name {
			same++
		}
	}
	if same > 1 {
		it.Notes = append(it.Notes, fmt.Sprintf("It is one of %d different definitions that were reported under this name.", same))
	}
	var others []string
	for _, other := range alike[it.looks()] {
		if other != it.Name {
			others = append(others, title(other))
		}
	}
	if len(others) > 0 {
		it.Notes = append(it.Notes, "Its name looks like another one: "+strings.Join(others, ", ")+".")
	}
}

// whole is a definition by itself.
func whole(e *Entry, it Item) Item {
	it.Name = e.Name
	switch changes, err := Compare("", e.Text); {
	case e.Text == "":
		it.Notes = append(it.Notes, "Its text is not kept.")
	case err != nil, !e.genuine():
		it.Notes = append(it.Notes, "The text in Vault is not the one that its digest is of, so it is not shown.")
	default:
		it.Changes = changes
	}
	return it
}

// Definitions are the wanted ones, approved or reported, each by itself.
func (s *State) Definitions(wanted *Wanted) []Item {
	items := []Item{}
	for i := range s.Approved {
		if e := &s.Approved[i]; wanted.takes(e) {
			items = append(items, whole(e, Item{Change: "approved", Approved: e}))
		}
	}
	for i := range s.Reported {
		if e := &s.Reported[i]; wanted.takes(e) {
			items = append(items, whole(e, Item{Change: "not approved", Reported: e}))
		}
	}
	return items
}
