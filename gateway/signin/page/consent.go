package page

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// shownServers is the number of an identity's servers that stand on the page at
	// once; the others are folded away. Where there are many identities, it is fewServers.
	shownServers = 8
	fewServers   = 3
	// manyIdentities is the number from which on the buttons stay in view.
	manyIdentities = 12
	// namedServers is the number of servers' names on a page, so that hundreds of
	// identities with hundreds of servers each do not make a page of many megabytes.
	namedServers = 20_000
)

// consentView is the consent page as its template wants it.
type consentView struct {
	ConsentData

	Count   int
	Only    bool // there is one identity, and it is chosen
	Many    bool
	Letters bool // the groups have headings, and the page has links to them
	Groups  []group
}

// group is the identities with one first letter.
type group struct {
	Letter     string
	Identities []choice
}

// choice is an identity as the page shows it.
type choice struct {
	ID          string // of the element
	Name        string
	Description string
	Reach       reach
}

// reach is the list of servers that an identity reaches.
type reach struct {
	All     bool
	Count   string   // with its noun
	First   []string // those that stand on the page at once
	Rest    int      // the number of the others
	Servers []string // all of them, where they are folded away
	More    bool     // Servers is not empty
}

func consentViewOf(d ConsentData) consentView {
	d.Application, d.Person, d.Vouch = applicationName(d.Application), clean(d.Person), clean(d.Vouch)
	if d.Vouch == "" && d.Verified {
		d.Vouch = "The people who run this gateway vouch for this application."
	} else if d.Vouch == "" {
		d.Vouch = "Nobody vouches for it: any program can take this name."
	}
	v := consentView{ConsentData: d, Count: len(d.Identities)}
	v.Only, v.Many = v.Count == 1, v.Count >= manyIdentities

	identities := slices.Clone(d.Identities)
	slices.SortFunc(identities, func(a, b Identity) int { return strings.Compare(a.Name, b.Name) })
	shown, room := shownServers, namedServers
	if v.Many {
		shown = fewServers
	}
	for n, i := range identities {
		letter := firstLetter(i.Name)
		if last := len(v.Groups) - 1; last < 0 || v.Many && v.Groups[last].Letter != letter {
			v.Groups = append(v.Groups, group{Letter: letter})
		}
		g := &v.Groups[len(v.Groups)-1]
		c := choice{ID: "identity-" + strconv.Itoa(n), Name: i.Name, Description: clean(i.Description), Reach: reachOf(i, shown, room > 0)}
		room -= len(c.Reach.Servers)
		g.Identities = append(g.Identities, c)
	}
	v.Letters = len(v.Groups) > 2
	return v
}

func firstLetter(name string) string {
	r, _ := utf8.DecodeRuneInString(name)
	return strings.ToLower(string(r))
}

func reachOf(i Identity, shown int, named bool) reach {
	if i.AllServers {
		return reach{All: true}
	}
	servers := slices.Sorted(slices.Values(i.Servers))
	r := reach{Count: fmt.Sprintf("%d servers", len(servers)), First: servers}
	if len(servers) == 1 {
		r.Count = "1 server"
	}
	// One more is not worth the fold.
	if len(servers) > shown+1 {
		r.First, r.Rest = servers[:shown], len(servers)-shown
		if named {
			r.Servers, r.More = servers, true
		}
	}
	return r
}
