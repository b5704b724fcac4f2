package review

import (
	"bufio"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
)

//go:embed page/page.html
var pageText string

//go:embed page/style.css
var style string

//go:embed page/sort.js
var script string

// page is the review as one file. It loads nothing, and is complete without its script, which
// sorts tables and finds rows.
var page = template.Must(template.New("page").Parse(pageText))

// writeHTML writes one file that a browser shows without anything else.
func writeHTML(to io.Writer, r *Review) error {
	v := viewOf(r)
	w := bufio.NewWriterSize(to, 1<<16)
	if err := page.Execute(w, v); err != nil {
		return err
	}
	return w.Flush()
}

// view is a review as the page's template wants it.
type view struct {
	*Review
	Policy template.HTMLAttr
	Style  template.CSS
	Script template.JS

	When    string
	Wide    bool // more columns than a sheet of A4 has room for
	Cards   []card
	Days    []dayView
	Gaps    string
	Causes  []string
	Rows    []row
	Unused  []group
	Rules   []ruleView
	Changes []changeView
	Names   []nameView
}

// card is a number with its meaning.
type card struct {
	Number, Label, Note string
}

// dayView is a day of those in which use was looked for.
type dayView struct {
	Day string
	Gap bool
}

// row is a client's row of the matrix.
type row struct {
	*Client
	Cells []cellView
}

// cellView is a pair in the matrix. Word is its text, for readers who do not see the sign
// that the style sheet draws instead.
type cellView struct {
	Class, Word, Title string
}

// group is a client with servers.
type group struct {
	*Client
	Servers []Pair
}

// ruleView is a client's rules that are alike for some servers.
type ruleView struct {
	Client                            string
	Servers                           string
	Tools, Prompts, Resources, Limits string
}

// changeView is a pair that has changed.
type changeView struct {
	Kind, Class string
	Change
}

// nameView are clients or servers that are new or gone.
type nameView struct {
	Kind  string
	Names string
}

// Columns at which a sheet is full, and the room for them in millimetres.
const (
	fullSheet = 34
	sheetRoom = 330
	cellRoom  = 6.5
)

func viewOf(r *Review) *view {
	v := &view{
		Review: r, When: r.At.Format("2 January 2006, 15:04 MST"), Wide: len(r.Servers) > fullSheet,
		Cards: r.cards(), Gaps: r.Coverage.today() + " " + r.Coverage.gaps(), Causes: r.Coverage.causes(), Rules: r.ruleViews(),
		Script: template.JS(script), //nolint:gosec // a file of this package
	}
	room := cellRoom
	if v.Wide {
		room = min(cellRoom, sheetRoom/float64(len(r.Servers)))
	}
	css := strings.ReplaceAll(style, "PRINT_CELL", fmt.Sprintf("%.2fmm", room))
	v.Style = template.CSS(css)                                                                                                                    //nolint:gosec // a file of this package
	v.Policy = template.HTMLAttr(fmt.Sprintf(`content="default-src 'none'; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'"`, //nolint:gosec // digests
		digestOf(css), digestOf(script)))
	v.days()
	for i := range r.Clients {
		c := &r.Clients[i]
		pairs := r.Pairs[i*len(r.Servers) : (i+1)*len(r.Servers)]
		line := row{Client: c, Cells: make([]cellView, len(pairs))}
		unused := group{Client: c}
		for n := range pairs {
			line.Cells[n] = pairs[n].cell()
			if pairs[n].Usage == Unused {
				unused.Servers = append(unused.Servers, pairs[n])
			}
		}
		v.Rows = append(v.Rows, line)
		if len(unused.Servers) > 0 {
			v.Unused = append(v.Unused, unused)
		}
	}
	v.differences()
	return v
}

// digestOf names a text in a Content-Security-Policy.
func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

func (r *Review) cards() []card {
	c := &r.Counts
	note := func(n int, what string) string { return strings.Trim(ofThem(n, what), " ()") }
	cards := []card{
		{grouped(c.Clients), nounOf(c.Clients, "client"), note(c.DisabledClients, "disabled")},
		{grouped(c.Servers), nounOf(c.Servers, "server"), note(c.DisabledServers, "disabled")},
		{grouped(c.Allowed), "allowed", "of " + grouped(c.Pairs) + " pairs of client and server"},
		{grouped(c.Limited), "of these limited", "by rules for tools, prompts or resources"},
		{grouped(c.Used), "used", fmt.Sprintf("in the last %s, or today", count(r.Coverage.Days, "day"))},
		{grouped(c.Unused), "unused", "on none of these days, nor today"},
	}
	if c.NotKnown > 0 {
		cards = append(cards, card{grouped(c.NotKnown), "use not known", "for want of reports, or since the client is new"})
	}
	return cards
}

func nounOf(n int, what string) string {
	if n == 1 {
		return what
	}
	return what + "s"
}

// grouped is a number with its thousands apart.
func grouped(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func (v *view) days() {
	for n := v.Coverage.Days; n > 0; n-- {
		d := v.At.UTC().AddDate(0, 0, -n).Format(day)
		v.Days = append(v.Days, dayView{d, slices.ContainsFunc(v.Coverage.Gaps, func(g Gap) bool { return g.Day == d })})
	}
}

// cell is the pair's cell of the matrix.
func (p *Pair) cell() cellView {
	title := p.Client + " → " + p.Server + ": " + p.reason()
	switch p.Decision {
	case policy.NotInAllowedServers:
		return cellView{Class: "n", Word: "no"}
	case policy.ClientDisabled, policy.ServerDisabled:
		return cellView{Class: "o", Word: "off", Title: title}
	}
	if !p.Allowed {
		return cellView{Class: "x", Word: "denied", Title: title}
	}
	c := cellView{Class: "a", Word: "all", Title: title}
	if p.limited() {
		c.Class, c.Word = "s", "part"
		c.Title += "; " + p.rules()
	}
	switch p.Usage {
	case Unused:
		c.Class += " u"
		c.Word += ", unused"
	case NotKnown:
		c.Class += " k"
		c.Word += ", use not known"
	default:
		c.Word += ", used"
	}
	c.Title += "; " + p.use()
	return c
}

// ruleViews are the rules of each client, together for servers with the same.
func (r *Review) ruleViews() []ruleView {
	var views []ruleView
	for i := range r.Clients {
		pairs := r.Pairs[i*len(r.Servers) : (i+1)*len(r.Servers)]
		first := len(views)
		for n := range pairs {
			p := &pairs[n]
			if !p.limited() {
				continue
			}
			v := ruleView{
				Client: p.Client, Servers: p.Server, Limits: p.rules(),
				Tools: rulesText(p.Limits, &kinds[0]), Prompts: rulesText(p.Limits, &kinds[1]), Resources: rulesText(p.Limits, &kinds[2]),
			}
			same := slices.IndexFunc(views[first:], func(o ruleView) bool { return o.Limits == v.Limits })
			if same < 0 {
				views = append(views, v)
			} else {
				views[first+same].Servers += ", " + p.Server
			}
		}
	}
	return views
}

func (v *view) differences() {
	d := v.Difference
	if d == nil {
		return
	}
	for _, part := range []struct {
		kind, class string
		changes     []Change
	}{{"gained", "gained", d.Gained}, {"lost", "lost", d.Lost}, {"other rules", "changed", d.Changed}} {
		for _, c := range part.changes {
			v.Changes = append(v.Changes, changeView{part.kind, part.class, c})
		}
	}
	for _, part := range []struct {
		kind  string
		names []string
	}{{"New clients", d.NewClients}, {"Clients that are gone", d.GoneClients}, {"New servers", d.NewServers}, {"Servers that are gone", d.GoneServers}} {
		if len(part.names) > 0 {
			v.Names = append(v.Names, nameView{part.kind, strings.Join(part.names, ", ")})
		}
	}
}

// Since is when the earlier review was made.
func (v *view) Since() string { return v.Difference.Since.Format("2 January 2006, 15:04 MST") }

// Stamp is the review's time for programs.
func (v *view) Stamp() string { return v.At.Format(time.RFC3339) }

// Words are a decision in words; a dash where there was no such pair.
func (v *view) Words(decision string) string {
	if words, known := reasons[decision]; known {
		return words
	}
	return dash(decision)
}
