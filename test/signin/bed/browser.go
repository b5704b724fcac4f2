package bed

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// Browser is a person's browser: it keeps cookies, follows redirects one by one, and sends
// the forms that it finds in pages. It knows no script.
type Browser struct {
	// Person signs in where the company asks; "": nobody does, and the browser stays there.
	Person string
	// Source is the address that its requests come from.
	Source string
	// Header is added to each request to the gateway.
	Header http.Header

	bed    *Bed
	t      *testing.T
	client *http.Client
	jar    *cookiejar.Jar
}

var sources atomic.Int64

// Browser is a new browser, at an address of its own.
func (b *Bed) Browser(person string) *Browser {
	b.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	n := sources.Add(1)
	client := b.client()
	client.Jar = jar
	return &Browser{Person: person, Source: fmt.Sprintf("198.51.%d.%d", 100+n/250, n%250+1), bed: b, t: b.t, client: client, jar: jar}
}

// Page is where a browser has come to.
type Page struct {
	*document
	// URL is its address. Where the page is an application's own, which no browser of a bed
	// opens, only this is set.
	URL    *url.URL
	Status int
	Header http.Header
	Body   string
	// Trail are the addresses that led here, and Cookies those that were set on the way.
	Trail   []string
	Cookies []*http.Cookie

	browser *Browser
}

// Open opens an address, and follows where it leads.
func (b *Browser) Open(address string) *Page {
	b.t.Helper()
	at, err := url.Parse(address)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.follow(http.MethodGet, at, nil, http.Header{"Sec-Fetch-Site": {"cross-site"}})
}

// SignInAt has the browser's person sign in at the company's page.
func (b *Browser) SignInAt(page *Page) *Page {
	b.t.Helper()
	return page.Send(credentials(b.Person))
}

// Callback has the browser's person sign in at the company's page, and returns the address
// to which the company sends the browser, which does not open it.
func (b *Browser) Callback(page *Page) string {
	b.t.Helper()
	action, values, err := page.Fill(credentials(b.Person))
	if err != nil {
		b.t.Fatal(err)
	}
	answer := b.send(http.MethodPost, action, values, http.Header{"Origin": {b.bed.Company.Issuer()}, "Sec-Fetch-Site": {"same-origin"}})
	back, err := url.Parse(answer.Header.Get("Location"))
	if err != nil || !strings.HasPrefix(back.String(), b.bed.Door.URL+callback) {
		b.t.Fatalf("the company sends the browser to %s", back)
	}
	b.noteSecrets(back)
	return back.String()
}

// Jar are the cookies that the browser would send to the gateway.
func (b *Browser) Jar() []*http.Cookie {
	at, err := url.Parse(b.bed.Door.URL + callback)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.jar.Cookies(at)
}

// most bounds the redirects in a row.
const most = 10

func (b *Browser) follow(method string, at *url.URL, form url.Values, header http.Header) *Page {
	b.t.Helper()
	var trail []string
	var cookies []*http.Cookie
	for range most {
		trail = append(trail, at.String())
		if !b.opens(at) {
			return &Page{URL: at, Trail: trail, Cookies: cookies, browser: b}
		}
		page := b.send(method, at, form, header)
		cookies = append(cookies, page.Cookies...)
		page.Trail, page.Cookies = trail, cookies
		next := page.Header.Get("Location")
		if page.Status < 300 || page.Status > 399 || next == "" {
			if b.Person != "" && method == http.MethodGet && b.bed.Company.asks(page) {
				landed := page.Send(credentials(b.Person))
				landed.Trail, landed.Cookies = append(trail, landed.Trail...), append(cookies, landed.Cookies...)
				return landed
			}
			return page
		}
		to, err := at.Parse(next)
		if err != nil {
			b.t.Fatalf("%s leads to %q: %v", at, next, err)
		}
		b.noteSecrets(to)
		// After a POST, and wherever it leads, browsers ask with GET.
		method, form, header, at = http.MethodGet, nil, http.Header{"Sec-Fetch-Site": {"cross-site"}}, to
	}
	b.t.Fatalf("too many redirects: %q", trail)
	return nil
}

// opens reports whether an address is the gateway's or the company's.
func (b *Browser) opens(at *url.URL) bool {
	origin := at.Scheme + "://" + at.Host
	return origin == b.bed.Door.URL || origin == b.bed.Company.Issuer()
}

// noteSecrets notes the code in an address.
func (b *Browser) noteSecrets(at *url.URL) {
	code := at.Query().Get("code")
	if strings.HasPrefix(at.String(), b.bed.Door.URL+callback) {
		// Vault's audit log has it, and then it is spent: see https://developer.hashicorp.com/vault/api-docs/auth/jwt#oidc-callback.
		b.bed.Company.given(code)
		return
	}
	b.bed.Secret(code)
}

// send sends one request.
func (b *Browser) send(method string, at *url.URL, form url.Values, header http.Header) *Page {
	b.t.Helper()
	var body io.Reader = http.NoBody
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	request, err := http.NewRequestWithContext(b.t.Context(), method, at.String(), body)
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header = http.Header{
		"Accept": {"text/html,application/xhtml+xml"}, "User-Agent": {"Mozilla/5.0 (X11; Linux x86_64)"},
		"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}, source: {b.Source},
	}
	maps.Copy(request.Header, header)
	maps.Copy(request.Header, b.Header)
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := b.client.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	page := &Page{URL: at, Status: answer.StatusCode, Header: answer.Header, Body: string(content), browser: b}
	if page.Cookies = answer.Cookies(); at.Scheme+"://"+at.Host != b.bed.Door.URL {
		page.Cookies = nil
	}
	for _, cookie := range page.Cookies {
		b.bed.Secret(cookie.Value)
	}
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html") {
		page.document = parse(b.t, content)
		for _, form := range page.forms {
			for _, field := range form.fields {
				b.bed.Secret(field.value)
			}
		}
	}
	return page
}

// decode reads JSON.
func decode(body []byte, into any) error { return json.Unmarshal(body, into) }
