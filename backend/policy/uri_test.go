package policy

import (
	"math/rand/v2"
	neturl "net/url"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	whatwg "github.com/nlnwa/whatwg-url/url"
)

func TestCanonicalURI(t *testing.T) {
	tests := []struct{ name, uri, want string }{
		{"a file", "file:///srv/docs/a.txt", "file:///srv/docs/a.txt"},
		{"a scheme of the server's own", "note://Team/Plan", "note://Team/Plan"},
		{"no authority", "memo:insights", "memo:insights"},
		{"a URN", "urn:isbn:0451450523", "urn:isbn:0451450523"},
		{"user and host of a scheme of the server's own", "postgres://user@h:5432/db/t/schema", "postgres://user@h:5432/db/t/schema"},
		{"a query and a fragment", "https://h.com/a?x=1&y=/#f", "https://h.com/a?x=1&y=/#f"},
		{"an upper-case scheme", "FILE:///a", "file:///a"},
		{"an upper-case host", "https://H.com/A", "https://h.com/A"},
		{"the scheme's own port", "https://h.com:443/a", "https://h.com/a"},
		{"an address with a short form", "http://127.1/a", "http://127.0.0.1/a"},
		{"a host beyond ASCII", "https://café.com/a", "https://xn--caf-dma.com/a"},
		{"no path", "https://h.com", "https://h.com/"},
		{"no path before a query", "https://h.com?x", "https://h.com/?x"},
		{"the host of files on this machine", "file://localhost/a", "file:///a"},
		{"a space", "file:///a b", "file:///a%20b"},
		{"letters beyond ASCII", "file:///café", "file:///caf%C3%A9"},
		{"an escape in lower case", "file:///caf%c3%a9", "file:///caf%C3%A9"},
		{"an escape that is not needed", "file:///%61%2dz", "file:///a-z"},
		{"characters that a URI does not hold", `x:/{a}|"^<b>`, "x:/%7Ba%7D%7C%22%5E%3Cb%3E"},
		{"an escaped percent sign", "file:///100%25", "file:///100%25"},
		{"dots in a name", "file:///a/..b/c../.d/...", "file:///a/..b/c../.d/..."},
		{"a drive", "file:///C:/a", "file:///C:/a"},
		{"a port and an address of a scheme of the server's own", "mcp://[::1]:80/a", "mcp://[::1]:80/a"},
		{"an empty query and fragment", "ui://app/page?#", "ui://app/page?#"},
		{"letters in another form of Unicode", "file:///cafe\u0301", "file:///cafe%CC%81"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := CanonicalURI(test.uri)
			if err != nil || got != test.want {
				t.Errorf("CanonicalURI(%q) = %q, %v", test.uri, got, err)
			}
		})
	}
}

func TestURIWithTwoReadingsIsRefused(t *testing.T) {
	tests := []struct{ name, uri, want string }{
		{"an empty text", "", "no scheme"},
		{"a path", "/etc/passwd", "no scheme"},
		{"a scheme that is none", "1x://a", "no scheme"},
		{"a dot segment", "file:///a/../b", `"."`},
		{"a dot segment at the end", "file:///a/..", `"."`},
		{"a single dot", "file:///a/./b", `"."`},
		{"an encoded dot segment", "file:///a/%2E%2e/b", `"."`},
		{"a dot segment with a space", "file:///a/..%20/b", `"."`},
		{"a dot segment with a parameter", "file:///a/..;x/b", `"."`},
		{"a dot segment for a host", "note://../b", `"."`},
		{"a dot segment without a slash", "note:..", `"."`},
		{"a dot segment in the query", "file:///a?x/../../b", `"."`},
		{"a dot segment in the fragment", "file:///a#/../b", `"."`},
		{"a dot segment with another space", "file:///a/..%E3%80%80/b", `"."`},
		{"a dot segment with an encoded parameter", "file:///a/..%3Bx/b", `"."`},
		{"a dot segment as a value", "mcp://h?path=./a", `"."`},
		{"a dot segment as a second value", "mcp://h?x&../a", `"."`},
		{"a dot segment after a colon", "git:repo:../a", `"."`},
		{"an empty part", "file:///a//b", "empty part"},
		{"an empty part at the start", "file:////a", "empty part"},
		{"an encoded slash", "file:///a%2Fb", "read differently"},
		{"an encoded backslash", "file:///a%5cb", "read differently"},
		{"a backslash", `file:///a\b`, "backslash"},
		{"a twice encoded slash", "file:///a%252Fb", "read differently"},
		{"a twice encoded slash whose digits are encoded", "file:///a%25%32%46b", "read differently"},
		{"a twice encoded letter with one digit encoded", "file:///a%254%31", "read differently"},
		{"an encoded NUL", "file:///a%00", "control characters"},
		{"an encoded line end", "file:///a%0Ab", "control characters"},
		{"a tab", "file:///a\tb", "control characters"},
		{"a space at the end", "file:///a ", "space at its start or end"},
		{"a percent sign alone", "file:///100%", "%25"},
		{"half an escape", "file:///a%4", "%25"},
		{"an escape that is none", "file:///%zz", "%25"},
		{"an overlong slash", "file:///a%C0%AFb", "UTF-8"},
		{"bytes that are not UTF-8", "file:///\xff", "UTF-8"},
		{"a URL without slashes", "https:h.com/a", `"//"`},
		{"a file without slashes", "file:a", `"//"`},
		{"a user of a web page", "https://good.com@evil.com/", "user or a password"},
		{"a host with an escape", "https://%68.com/..", `"."`},
		{"a host that is none", "https://a b.com/", "host is not valid"},
		{"no host", "https:///a", "host is not valid"},
		{"this machine with a dot", "file://localhost./a", "host is not valid"},
		{"an empty port", "mcp://h:/a", "host is not valid"},
		{"a port with a zero before it", "mcp://h:080/a", "host is not valid"},
		{"a port that is none", "mcp://h:x/a", "host is not valid"},
		{"an empty user", "mcp://@h/a", "host is not valid"},
		{"an empty password", "mcp://u:@h/a", "host is not valid"},
		{"two users", "mcp://u@v@h/a", "host is not valid"},
		{"an address in a long form", "mcp://[0:0::1]/a", "host is not valid"},
		{"a host without end", "mcp://h:" + strings.Repeat("0", maxAuthority), "bytes long"},
		{"a drive for a host", "file://C:/a", "host is not valid"},
		{"a drive in the old form", "file:///C|/a", "drive"},
		{"a URI without end", "file:///" + strings.Repeat("a", maxURL), "bytes long"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := CanonicalURI(test.uri)
			if err == nil {
				t.Fatalf("CanonicalURI(%q) = %q", test.uri, got)
			}
			wantError(t, err, test.want)
			f := CompileRules("s", []Rights{{Lists: Lists{AllowedServers: []string{"*"}, AllowedResources: []string{"*/*"}}}}).Resources
			if f.Allows(test.uri) {
				t.Error("a rule that allows everything allows it")
			}
		})
	}
}

func TestDenialIsNotEvadedByAnotherSpelling(t *testing.T) {
	denied := func(rule string) *Filter {
		return CompileRules("s", []Rights{{Lists: Lists{AllowedServers: []string{"*"}, DeniedResources: []string{rule}}}}).Resources
	}
	for _, uri := range []string{
		"file:///srv/secret!.txt", "FILE:///srv/secret!.txt", "file://localhost/srv/secret!.txt", "file:///srv/%73ecret!.txt",
		"file:///srv/secret%21.txt", "file:///srv/Secret!.TXT", "file:///srv/secret!.txt?", "file:///srv/secret!.txt?x=1", "file:///srv/secret!.txt#x",
		"file:///srv/secret!.txt/", "file:///srv/./secret!.txt", "file:///srv//secret!.txt", "file:///srv/x/../secret!.txt",
		`file:///srv\secret!.txt`, "file:///srv/secret!.txt ", "file:/srv/secret!.txt", "file:///srv%2Fsecret!.txt",
	} {
		if denied("s/file:///srv/secret!.txt").Allows(uri) {
			t.Errorf("%q evades the denial", uri)
		}
		if denied("s/*secret*").Allows(uri) {
			t.Errorf("%q evades the denial with wildcards", uri)
		}
		if denied("s/file:///srv/*").Allows(uri) {
			t.Errorf("%q evades the denial of the folder", uri)
		}
	}
	if !denied("s/file:///srv/secret.txt").Allows("file:///srv/secret.txt2") {
		t.Error("another file is denied")
	}
	if !denied("s/file:///srv/%2A").Allows("file:///srv/a") || denied("s/file:///srv/%2A").Allows("file:///srv/*") {
		t.Error("an escaped star in a denial is a wildcard")
	}
}

func TestAllowanceIsOfTheURIAlone(t *testing.T) {
	f := CompileRules("s", []Rights{{Lists: Lists{
		AllowedServers: []string{"*"}, AllowedResources: []string{"s/file:///pub/*.md", "s/note://a", "*/https://h.com/*"},
	}}}).Resources
	for uri, want := range map[string]bool{
		"file:///pub/a.md": true, "file:///pub/a/b.md": true, "FILE:///pub/%61.md": true, "note://a": true, "https://H.com/x": true,
		"file:///PUB/a.md": false, "file:///pub/a.md?x": false, "file:///pub/a.md/": false, "note://A": false, "note://a/": false, "https://h.com.evil.com/x": false,
	} {
		if f.Allows(uri) != want {
			t.Errorf("%q: allowed is %v", uri, !want)
		}
	}
}

func TestValidateRuleOfResources(t *testing.T) {
	for _, rule := range []string{
		"files/file:///srv/docs/*", "*/*", "*/*.md", "files/*secret*", "db/postgres://*/salaries/*", "git*/note:*", "s/f*", "s/https://*.h.com/*",
		"s/https://h.com*", "s/memo:insights", "s/file:///a%20b*", "s/http*://h.com/a", "s/file:///.*",
		"s/mcp://h:80/*", "s/mcp://h:*", "s/mcp://u@*/a",
	} {
		if err := ValidateRule(Resource, rule); err != nil {
			t.Errorf("%q is refused: %v", rule, err)
		}
	}
	tests := []struct{ name, rule, want string }{
		{"a URI without a server", "file:///srv/*", `write it as "server/URI", for example "*/file:///srv/*"`},
		{"a URI without a slash", "memo:insights", `for example "*/memo:insights"`},
		{"no URI", "files", "names no server"},
		{"no URI after the slash", "files/", `write "files/*"`},
		{"a path", "files//srv/docs", "no scheme"},
		{"a path with a wildcard", "files//srv/*", `begins with "/srv/", which is not a scheme`},
		{"a host that matches nothing", "s/mcp://h:/*", "host is not valid"},
		{"a space", "files/file:///a b*", `write it as "files/file:///a%20b*"`},
		{"an upper-case scheme", "files/FILE:///a*", `write it as "files/file:///a*"`},
		{"an upper-case host", "s/https://H.com/*", `write it as "s/https://h.com/*"`},
		{"an upper-case host with a wildcard", "s/https://*.H.com/*", `write it as "s/https://*.h.com/*"`},
		{"an escape that is not needed", "s/*%61", `write it as "s/*a"`},
		{"a URI in another spelling", "s/https://h.com:443/a", `write it as "s/https://h.com/a"`},
		{"no path", "s/https://h.com", `write it as "s/https://h.com/"`},
		{"a dot segment", "s/file:///a/../*", `"."`},
		{"a dot segment after a wildcard", "s/*/../a", `"."`},
		{"an encoded slash", "s/file:///a%2F*", "read differently"},
		{"an escape with a wildcard", "s/file:///%*", "%25"},
		{"a control character", "s/file:///a\n", "control characters"},
		{"a rule without end", "s/file:///" + strings.Repeat("a", maxResourceRule), "bytes long"},
	}
	for _, test := range tests {
		t.Run(test.name+" is refused", func(t *testing.T) { wantError(t, ValidateRule(Resource, test.rule), test.want) })
	}
	for _, item := range []Item{Tool, Prompt} {
		wantError(t, ValidateRule(item, "push"), string(item)+" rule")
	}
}

// randomURI returns a URI of parts that parsers read differently.
func randomURI(r *rand.Rand) string {
	uri := from(r, "file:", "FILE:", "http:", "https:", "note:", "x+y.z-1:", "", "1:", "é:") +
		from(r, "//", "//", "/", "", "///", `\\`) +
		from(r, "", "h.com", "H.com", "h.com.", "u@h.com", "@h", "u:@h", "h:", "h:01", "[0::1]", "[::1]", "127.1", "localhost", "..", "C:", "h:443", "%68", "é.com")
	for range r.IntN(5) {
		uri += from(r, "/", "/", "/", "//", `\`, "%2f", "?", "#", ";", "") +
			from(r, "", "a", "A", "b c", "..", ".", "%2e", "%2E.", "..%20", "%61", "%C3%A9", "é", "%ff", "%00", "%", "%zz", "%25", "%252e", "%25%32%46", "%254%31", "x=..", "C|", "*", "{x}", "\t", " ")
	}
	return uri
}

// checkCanonicalURI fails the test where a URI that is accepted is another one to a parser as
// browsers have it, or to the standard library's, than its canonical form.
func checkCanonicalURI(t *testing.T, uri string) {
	t.Helper()
	canonical, err := CanonicalURI(uri)
	if err != nil {
		return
	}
	if again, err := CanonicalURI(canonical); err != nil || again != canonical {
		t.Fatalf("%q is to be written %q, and that %q (%v)", uri, canonical, again, err)
	}
	u, err := neturl.Parse(canonical)
	if err != nil {
		if scheme, _, _ := strings.Cut(canonical, ":"); browserSchemes[scheme] {
			t.Fatalf("%q is accepted, and not by the standard library: %v", canonical, err)
		}
		return // hosts of other schemes may have any form
	}
	if clean := path.Clean(u.Path); u.Path != "" && clean != strings.TrimRight(u.Path, "/") && u.Path != "/" {
		t.Fatalf("%q is accepted, and its path %q leads to %q", uri, u.Path, clean)
	}
	if read, err := whatwg.Parse(uri); err == nil {
		if same, err := CanonicalURI(read.Href(false)); err != nil || same != canonical {
			t.Fatalf("%q is to be written %q, and a browser writes %q, which is %q (%v)", uri, canonical, read.Href(false), same, err)
		}
	}
	if !browserSchemes[u.Scheme] {
		return
	}
	one, err := whatwg.Parse(uri)
	if err != nil {
		t.Fatalf("%q is accepted, and no browser reads it: %v", uri, err)
	}
	other, err := whatwg.Parse(canonical)
	if err != nil {
		t.Fatalf("%q is accepted, and no browser reads %q: %v", uri, canonical, err)
	}
	decoded, _ := neturl.PathUnescape(one.Pathname())
	if decoded != u.Path || foldHost(one.Hostname()) != foldHost(other.Hostname()) || one.Port() != other.Port() || strings.TrimSuffix(u.Hostname(), ".") != strings.Trim(foldHost(one.Hostname()), "[]") {
		t.Fatalf("%q is read as host %q, path %q; its canonical form %q as host %q, path %q", uri, one.Hostname(), decoded, canonical, u.Hostname(), u.Path)
	}
}

func TestCanonicalURIReadsTheSameEverywhere(t *testing.T) {
	r := rand.New(rand.NewPCG(18, 5))
	accepted := 0
	for range 4 * rounds {
		uri := randomURI(r)
		if _, err := CanonicalURI(uri); err == nil {
			accepted++
		}
		checkCanonicalURI(t, uri)
	}
	if accepted < rounds/4 {
		t.Errorf("only %d URIs were accepted", accepted)
	}
}

func FuzzCanonicalURI(f *testing.F) {
	r := rand.New(rand.NewPCG(18, 6))
	for range 50 {
		f.Add(randomURI(r))
	}
	f.Fuzz(checkCanonicalURI)
}

func FuzzRule(f *testing.F) {
	for _, s := range [][2]string{{"s/*", "push"}, {"s/file:///a/*", "file:///a/b"}, {"*/https://*.h.com/*", "https://x.h.com/"}, {"s/%2A", "*"}, {"s/note:*é*", "note:É"}, {"s/a:%C5*%BF", "a:ſ"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, rule, name string) {
		for _, item := range items {
			valid := ValidateRule(item, rule)
			l := Lists{AllowedServers: []string{"*"}}
			denied := l
			switch item {
			case Tool:
				l.AllowedTools, denied.DeniedTools = []string{rule}, []string{rule}
			case Prompt:
				l.AllowedPrompts, denied.DeniedPrompts = []string{rule}, []string{rule}
			case Resource:
				l.AllowedResources, denied.DeniedResources = []string{rule}, []string{rule}
			}
			allows, denies := []Rights{{Lists: l}}, []Rights{{Lists: denied}}
			for _, rights := range [][]Rights{allows, denies} {
				if f, d := filterOf(item, rights), DecideItem("c", rights, "s", item, name); f.Allows(name) != d.Allowed {
					t.Fatalf("%s rule %q, %q: the filter says %v, the explanation %s", item, rule, name, f.Allows(name), d.Reason)
				}
			}
			if filterOf(item, allows).Allows(name) && filterOf(item, denies).Allows(name) {
				t.Fatalf("%s rule %q allows %q, and does not deny it", item, rule, name)
			}
			_, literal, _ := strings.Cut(rule, "/")
			if valid == nil && strings.HasPrefix(rule, "s/") && !strings.Contains(rule, "*") && !filterOf(item, allows).Allows(literal) {
				t.Fatalf("%s rule %q is valid, and does not allow what it names", item, rule)
			}
			if valid != nil && (!utf8.ValidString(valid.Error()) || filterOf(item, allows).Allows(name) || filterOf(item, denies).Allows(name)) {
				t.Fatalf("%s rule %q is not valid, and lets something pass", item, rule)
			}
		}
	})
}

// filterOf compiles the filter of server "s".
func filterOf(item Item, rights []Rights) *Filter {
	return CompileRules("s", rights).of(item)
}

func TestFilterOfACanonicalURIAllocatesNothing(t *testing.T) {
	f := CompileRules("s", []Rights{{Lists: Lists{
		AllowedServers: []string{"*"}, AllowedResources: []string{"s/file:///srv/*", "*/https://h.com/*"}, DeniedResources: []string{"s/*secret*"},
	}}}).Resources
	for _, uri := range []string{"file:///srv/docs/a.md", "https://h.com/a"} {
		if n := testing.AllocsPerRun(100, func() { f.Allows(uri) }); n != 0 {
			t.Errorf("%q: %v allocations", uri, n)
		}
	}
}
