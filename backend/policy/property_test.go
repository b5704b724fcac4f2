package policy

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// generated makes random policies and servers out of so few parts that they
// meet often.
type generated struct{ *rand.Rand }

func (g generated) server() Server {
	s := Server{Name: from(g.Rand, "a", "b", "c"), Stdio: g.IntN(3) == 0}
	if s.Stdio {
		s.Command = from(g.Rand, "x", "y")
		if g.IntN(2) == 0 {
			s.Args = []string{from(g.Rand, "1", "2")}
		}
		return s
	}
	s.URL = from(g.Rand, "https://a.com/", "https://a.com/mcp", "http://b.com:8080/mcp?x=1", "https://a.b.com/mcp/")
	return s
}

func (g generated) entry() Entry {
	switch g.IntN(3) {
	case 0:
		return Entry{Kind: ServerName, Text: from(g.Rand, "a", "b", "c")}
	case 1:
		command := []string{from(g.Rand, "x", "y")}
		if g.IntN(2) == 0 {
			command = append(command, from(g.Rand, "1", "2"))
		}
		return Entry{Kind: ServerCommand, Command: command}
	}
	return Entry{Kind: ServerURL, Text: from(g.Rand, "*", "https://a.com", "https://a.com/mcp", "*://*.com:*/mcp", "https://*.b.com/*", "h.com", "http://b.com:8080/*")}
}

func (g generated) list() []Entry {
	if g.IntN(3) == 0 {
		return nil
	}
	list := []Entry{}
	for range g.IntN(4) {
		list = append(list, g.entry())
	}
	return list
}

func (g generated) sources() []Source {
	sources := make([]Source, g.IntN(4))
	for i := range sources {
		sources[i] = Source{
			Name:    from(g.Rand, "p", "q", "r", "s"),
			Managed: g.IntN(2) == 0,
			Missing: g.IntN(20) == 0,
			Policy:  Document{Allowed: g.list(), Denied: g.list(), ManagedOnly: g.IntN(4) == 0},
		}
	}
	return sources
}

// with returns a copy of the sources with one of them changed.
func with(sources []Source, i int, change func(*Document)) []Source {
	sources = slices.Clone(sources)
	change(&sources[i].Policy)
	return sources
}

// rounds is how many random policies each property is tried on.
const rounds = 5_000

func TestDenyEntryAddedNeverAdmitsMore(t *testing.T) {
	g := generated{rand.New(rand.NewPCG(3, 1))}
	for range rounds {
		sources, server := append(g.sources(), Source{Name: "z"}), g.server()
		e := g.entry()
		more := with(sources, g.IntN(len(sources)), func(d *Document) { d.Denied = append(slices.Clone(d.Denied), e) })
		if !Compile(sources).Evaluate(&server).Allowed && Compile(more).Evaluate(&server).Allowed {
			t.Fatalf("deny entry %s admits %+v to %+v", e, server, sources)
		}
	}
}

func TestAllowEntryAddedNeverAdmitsLess(t *testing.T) {
	g := generated{rand.New(rand.NewPCG(3, 2))}
	tried := 0
	for range rounds {
		sources, server := g.sources(), g.server()
		p, e := Compile(sources), g.entry()
		i := slices.IndexFunc(sources, func(s Source) bool { return s.Policy.Allowed != nil })
		if i < 0 || !p.limited {
			continue // a first list restricts items that were free before
		}
		if e.Kind == ServerURL && len(p.allowed.urls) == 0 || e.Kind == ServerCommand && len(p.allowed.commands) == 0 {
			continue // the first entry of a stricter kind switches names off
		}
		tried++
		more := with(sources, i, func(d *Document) { d.Allowed = append(slices.Clone(d.Allowed), e) })
		if p.Evaluate(&server).Allowed && !Compile(more).Evaluate(&server).Allowed {
			t.Fatalf("allow entry %s takes %+v away from %+v", e, server, sources)
		}
	}
	if tried < rounds/10 {
		t.Errorf("only %d of %d rounds tried anything", tried, rounds)
	}
}

func TestFirstEntryOfAStricterKindTakesAwayNamesAlone(t *testing.T) {
	g := generated{rand.New(rand.NewPCG(3, 3))}
	for range rounds {
		sources, server := append(g.sources(), Source{Name: "z", Managed: true, Policy: Document{Allowed: []Entry{}}}), g.server()
		e := g.entry()
		before := Compile(sources)
		after := Compile(with(sources, len(sources)-1, func(d *Document) { d.Allowed = []Entry{e} }))
		was, is := before.Evaluate(&server), after.Evaluate(&server)
		if was.Allowed && !is.Allowed {
			if _, byName := before.allowed.names[server.Name]; !byName || e.Kind == ServerName {
				t.Fatalf("allow entry %s takes %+v away from %+v: %s", e, server, sources, is.Reason)
			}
		}
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	g := generated{rand.New(rand.NewPCG(3, 4))}
	for range rounds {
		sources, server := g.sources(), g.server()
		shuffled := slices.Clone(sources)
		g.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for i := range shuffled {
			d := &shuffled[i].Policy
			d.Allowed, d.Denied = g.shuffle(d.Allowed), g.shuffle(d.Denied)
		}
		one, two := Compile(sources), Compile(shuffled)
		if one.Digest() != two.Digest() || !reflect.DeepEqual(one.Evaluate(&server), two.Evaluate(&server)) {
			t.Fatalf("%+v and %+v decide differently about %+v", sources, shuffled, server)
		}
	}
}

func (g generated) shuffle(list []Entry) []Entry {
	list = slices.Clone(list)
	g.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

func TestCompileLeavesItsSourcesAlone(t *testing.T) {
	g := generated{rand.New(rand.NewPCG(3, 5))}
	for range 1000 {
		sources := g.sources()
		text := make([]string, len(sources))
		for i := range sources {
			text[i] = sources[i].text()
		}
		p := Compile(sources)
		digest := p.Digest()
		for i := range sources {
			if sources[i].text() != text[i] {
				t.Fatalf("source %s became %s", text[i], sources[i].text())
			}
			for j := range sources[i].Policy.Allowed {
				sources[i].Policy.Allowed[j].Text = "changed"
			}
		}
		if got := Compile(p.Sources()).Digest(); got != digest {
			t.Fatal("a change of the sources after Compile reached the policy")
		}
	}
}
