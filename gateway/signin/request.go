package signin

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"vault-plugin-secrets-mcp/gateway/signin/application"
)

const (
	// maxForm bounds the body of a request to sign-in.
	maxForm = 64 << 10

	// maxState and maxRedirect bound the values that the gateway carries for an
	// application.
	maxState    = 1024
	maxRedirect = 1024
)

// request is a valid authorization request (RFC 6749, section 4.1.1), in short names since a
// cookie holds it.
type request struct {
	Client      string            `json:"c"` // hash of the client_id
	Application string            `json:"a"` // its id
	Name        string            `json:"n,omitempty"`
	Host        string            `json:"h,omitempty"`
	Vouch       application.Vouch `json:"v,omitempty"`
	Trusted     bool              `json:"t,omitempty"`
	Redirect    string            `json:"r"`
	State       string            `json:"e,omitempty"`
	Challenge   string            `json:"p"` // PKCE's, of the method S256
	Resource    string            `json:"u"`
	Began       int64             `json:"b"`
}

// clientHash stands for a client_id, which may be long, where the two are to be compared.
func clientHash(clientID string) string {
	sum := sha256.Sum256([]byte(clientID))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Errors of reading parameters. None has a value in it.
var (
	errForm      = errors.New("the parameters cannot be read")
	errFormType  = errors.New("the body is not a form: send application/x-www-form-urlencoded")
	errDuplicate = errors.New("a parameter stands twice")
)

// parameters returns those of the query, or of the form of a POST. One without a value counts
// as omitted, and none may stand twice (RFC 6749, section 3.1).
func parameters(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	raw := r.URL.RawQuery
	if r.Method == http.MethodPost {
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || kind != "application/x-www-form-urlencoded" {
			return nil, errFormType
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
		if err != nil {
			return nil, errForm
		}
		raw = string(body)
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, errForm
	}
	for name, all := range values {
		if len(all) > 1 {
			return values, errDuplicate
		}
		if all[0] == "" {
			delete(values, name)
		}
	}
	return values, nil
}

// ownForm returns the values of a form that a page of the gateway has sent. Not ok: the request
// has been answered, on a page, since no application is known yet.
func (h *Handler) ownForm(w http.ResponseWriter, r *http.Request) (values url.Values, ok bool) {
	if !h.admitPage(w, r) {
		return nil, false
	}
	if !h.fromOwnPage(r) {
		h.refuse(w, r, facts{}, foreignForm())
		return nil, false
	}
	values, err := parameters(w, r)
	if err != nil {
		h.refuse(w, r, facts{}, badRequest(codeInvalidRequest, err.Error()))
		return nil, false
	}
	return values, true
}

// fromOwnPage reports whether a browser says that a form comes from a page of the gateway: by
// Origin, or by Sec-Fetch-Site where Origin is missing or hidden. One that says otherwise in
// either is not believed in the other.
func (h *Handler) fromOwnPage(r *http.Request) bool {
	origins, sites := r.Header.Values("Origin"), r.Header.Values("Sec-Fetch-Site")
	if len(origins) > 1 || len(sites) > 1 {
		return false
	}
	sameSite := len(sites) == 1 && sites[0] == "same-origin"
	if len(sites) == 1 && !sameSite {
		return false
	}
	if len(origins) == 0 || origins[0] == "null" {
		return sameSite
	}
	return origins[0] == h.PublicURL // which is spelled as browsers do
}

// answerURL is the redirect of the application with these parameters added to its query. The
// query that it has stays as it is (RFC 6749, section 4.1.2).
func answerURL(redirect string, add url.Values) string {
	separator := "?"
	if strings.Contains(redirect, "?") {
		separator = "&"
		if strings.HasSuffix(redirect, "?") || strings.HasSuffix(redirect, "&") {
			separator = ""
		}
	}
	return redirect + separator + add.Encode()
}

// describe is a text as error_description may have it (RFC 6749, section 4.1.2.1).
func describe(text string) string {
	const most = 200
	var b strings.Builder
	for _, c := range text {
		switch {
		case b.Len() >= most:
			return b.String()
		case c == '"' || c == '\\':
			b.WriteByte('\'')
		case c >= ' ' && c <= '~':
			b.WriteRune(c)
		}
	}
	return b.String()
}
