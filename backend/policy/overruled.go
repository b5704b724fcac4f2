package policy

import "slices"

// Overruled is a list of allowed items that has no effect for some servers, since another
// source allows every item of them.
type Overruled struct {
	Item        Item
	Servers     []string // or "*" alone
	By          *Rights  // the source whose list is unset
	Ineffective *Rights  // the source whose list is set
}

// FindOverruled finds the lists of allowed items that have no effect for some servers: sources
// add up, so a list narrows nothing of a server that a source without that list admits, too.
func FindOverruled(rights []Rights) []Overruled {
	if missing(rights) >= 0 {
		return nil
	}
	var found []Overruled
	for _, item := range items {
		for by := range rights {
			if allowed, _ := rights[by].of(item); allowed != nil {
				continue
			}
			for set := range rights {
				list, _ := rights[set].of(item)
				servers := slices.DeleteFunc(bothAdmit(&rights[set], &rights[by]), func(server string) bool {
					return slices.Contains(list, wildcard+"/"+wildcard) || slices.Contains(list, server+"/"+wildcard)
				})
				if list != nil && len(servers) > 0 {
					found = append(found, Overruled{item, servers, &rights[by], &rights[set]})
				}
			}
		}
	}
	return found
}

// bothAdmit returns the names of the servers that both sources admit; a wildcard alone if each
// admits all.
func bothAdmit(a, b *Rights) []string {
	if slices.Contains(a.AllowedServers, wildcard) && slices.Contains(b.AllowedServers, wildcard) {
		return []string{wildcard}
	}
	var names []string
	for _, name := range slices.Concat(a.AllowedServers, b.AllowedServers) {
		if name != wildcard && a.admits(name) && b.admits(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
