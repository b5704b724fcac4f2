package idp

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const loginPath = "/login"

//go:embed login.html
var loginSource string

//go:embed login.css
var loginStyle string

var (
	loginPage   = template.Must(template.New("login").Parse(loginSource))
	styleHash   = sha256.Sum256([]byte(loginStyle))
	loginPolicy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(styleHash[:]) +
		"'; base-uri 'none'; frame-ancestors 'none'"
)

// maxForm bounds the login form.
const maxForm = 64 << 10

// routes are those of the library, with the login page. The library's own way back from a login
// page relies on the request's id alone, so everybody with the id gets the code. Here the
// answer to the password is the redirect with the code, and the other way is closed.
func (i *IdP) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", i.provider)
	mux.Handle(i.provider.AuthorizationEndpoint().Relative()+"/callback", http.NotFoundHandler())
	mux.HandleFunc("GET "+loginPath, func(w http.ResponseWriter, r *http.Request) {
		i.showLogin(w, http.StatusOK, login{ID: r.URL.Query().Get("id")})
	})
	mux.Handle("POST "+loginPath, http.NewCrossOriginProtection().Handler(http.HandlerFunc(i.login)))
	return mux
}

// login is the data of the login page.
type login struct {
	ID, Name, Refusal string
	Style             template.CSS
	People            []Person
}

func (i *IdP) showLogin(w http.ResponseWriter, status int, page login) {
	page.Style = template.CSS(loginStyle) //nolint:gosec // a file of ours
	page.People = i.shown()
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", loginPolicy)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = loginPage.Execute(w, page)
}

// login takes the form: the name and the password of a person, or the wish to cancel.
func (i *IdP) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form cannot be read", http.StatusBadRequest)
		return
	}
	ctx := op.ContextWithIssuer(r.Context(), i.options.Issuer)
	r = r.WithContext(ctx)
	form := login{ID: r.PostForm.Get("id"), Name: r.PostForm.Get("name")}
	asked, err := storage{i}.AuthRequestByID(ctx, form.ID)
	if err != nil {
		http.Error(w, errUnknownRequest.Description, http.StatusBadRequest)
		return
	}
	if r.PostForm.Get("decision") == "cancel" {
		_ = storage{i}.DeleteAuthRequest(ctx, form.ID)
		op.AuthRequestError(w, r, asked, oidc.ErrAccessDenied().WithDescription("the person has cancelled the login"), i.provider)
		return
	}
	if form.Refusal = i.checkPassword(form.Name, r.PostForm.Get("password")); form.Refusal != "" {
		i.showLogin(w, http.StatusForbidden, form)
		return
	}
	done := i.finish(form.ID, form.Name)
	if done == nil {
		http.Error(w, errUnknownRequest.Description, http.StatusBadRequest)
		return
	}
	op.AuthResponse(done, i.provider, w, r)
}

// finish notes who has signed in. A request is finished once; nil means that it cannot be.
func (i *IdP) finish(id, name string) *request {
	i.mu.Lock()
	defer i.mu.Unlock()
	r := i.requests[id]
	if r == nil || r.done {
		return nil
	}
	r.person, r.done, r.at = name, true, time.Now()
	done := *r
	return &done
}
