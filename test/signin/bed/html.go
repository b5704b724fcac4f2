package bed

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// document is a page's content, as a browser without script and style reads it.
type document struct {
	text  string // the visible text
	forms []*form
}

// form is a form of a page, with its fields in order.
type form struct {
	method, action string
	fields         []field
}

type field struct {
	kind, name, value string
	on                bool // checked, for a choice
}

// choices are the kinds of fields of which only the chosen one is sent.
var choices = []string{"radio", "checkbox", "submit"}

func parse(t *testing.T, content []byte) *document {
	t.Helper()
	root, err := html.Parse(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	d := &document{}
	var text strings.Builder
	d.read(root, &text)
	d.text = strings.Join(strings.Fields(text.String()), " ")
	return d
}

func (d *document) read(n *html.Node, text *strings.Builder) {
	switch {
	case n.Type == html.TextNode:
		text.WriteString(n.Data + " ")
	case n.DataAtom == atom.Style || n.DataAtom == atom.Script:
		return
	case n.DataAtom == atom.Form:
		d.forms = append(d.forms, &form{method: strings.ToUpper(attribute(n, "method")), action: attribute(n, "action")})
	case n.DataAtom == atom.Input || n.DataAtom == atom.Button:
		if len(d.forms) > 0 {
			last := d.forms[len(d.forms)-1]
			last.fields = append(last.fields, fieldOf(n))
		}
	}
	for child := range n.ChildNodes() {
		d.read(child, text)
	}
}

func fieldOf(n *html.Node) field {
	f := field{kind: attribute(n, "type"), name: attribute(n, "name"), value: attribute(n, "value")}
	if f.kind == "" && n.DataAtom == atom.Button {
		f.kind = "submit"
	}
	f.on = slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "checked" })
	return f
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// Text is the page's text, as people read it.
func (p *Page) Text() string {
	if p.document == nil {
		return p.Body
	}
	return p.text
}

// Choices are the values that a form of the page offers for a name.
func (p *Page) Choices(name string) []string {
	var values []string
	if p.document == nil {
		return nil
	}
	for _, form := range p.forms {
		for _, f := range form.fields {
			if f.name == name {
				values = append(values, f.value)
			}
		}
	}
	return values
}

// Fill returns the form that has all the names of the choices, with these chosen, as it
// would be sent. The page must offer each of them.
func (p *Page) Fill(chosen url.Values) (action *url.URL, values url.Values, err error) {
	if p.document == nil {
		return nil, nil, fmt.Errorf("%d is no page with a form: %s", p.Status, p.Body)
	}
	for _, form := range p.forms {
		if values, ok := form.fill(chosen); ok {
			action, err := p.URL.Parse(form.action)
			if err == nil && form.method != http.MethodPost {
				err = fmt.Errorf("the form is sent with %q", form.method)
			}
			return action, values, err
		}
	}
	return nil, nil, fmt.Errorf("no form offers %v; the page says %s", chosen, p.text)
}

func (f *form) fill(chosen url.Values) (url.Values, bool) {
	values, met := url.Values{}, 0
	for _, f := range f.fields {
		switch {
		case slices.Contains(choices, f.kind) && chosen.Has(f.name):
			if chosen.Get(f.name) == f.value {
				values.Set(f.name, f.value)
				met++
			}
		case chosen.Has(f.name):
			values.Set(f.name, chosen.Get(f.name)) // it is typed
			met++
		case f.kind == "submit" || slices.Contains(choices, f.kind) && !f.on:
		case f.name != "":
			values.Add(f.name, f.value)
		}
	}
	return values, met == len(chosen)
}

// Send sends a form with these chosen, as a browser does from this page.
func (p *Page) Send(chosen url.Values) *Page {
	p.browser.t.Helper()
	action, values, err := p.Fill(chosen)
	if err != nil {
		p.browser.t.Fatal(err)
	}
	return p.SendAs(action, values, nil)
}

// SendAs sends a form's values with other headers than a browser would; nil: the same.
func (p *Page) SendAs(action *url.URL, values url.Values, header http.Header) *Page {
	p.browser.t.Helper()
	if header == nil {
		header = http.Header{
			"Origin": {p.URL.Scheme + "://" + p.URL.Host}, "Referer": {p.URL.String()}, "Sec-Fetch-Site": {"same-origin"},
		}
	}
	return p.browser.follow(http.MethodPost, action, values, header)
}
