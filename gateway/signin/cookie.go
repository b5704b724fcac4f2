package signin

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/gateway/seal"
)

const (
	cookieStem   = "mcp-sign-in-"
	cookiePrefix = "__Host-" // the browser holds such a cookie to this host, Secure and Path=/

	// transactionLife is the time for one login: Vault's oidc method forgets its state after
	// it too. The person then has as long to decide.
	transactionLife = 10 * time.Minute

	// maxCookie bounds one cookie; browsers keep 4096 bytes with its name. maxCookies bounds
	// the sum of those that a browser sends: common proxies refuse a line of more than 8 KB.
	maxCookie  = 3800
	maxCookies = 7 << 10
)

// transaction is one login between authorize and the decision. It is sealed in a cookie of
// its own, so that tabs do not disturb each other, and nobody else finishes it.
type transaction struct {
	request
	Login string `json:"l"`
	Nonce string `json:"o"` // shown to Vault with the code
	Vault string `json:"s"` // Vault's state
}

// secure reports whether browsers reach the gateway by https. Without it, browsers do not
// take cookies with the prefix.
func (h *Handler) secure() bool { return strings.HasPrefix(h.PublicURL, "https://") }

// cookieName names the cookie of the login with this state of Vault's.
func (h *Handler) cookieName(state string) string {
	sum := sha256.Sum256([]byte(state))
	return h.cookieStem() + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
}

// cookieStem begins the names of all cookies of sign-in.
func (h *Handler) cookieStem() string {
	if h.secure() {
		return cookiePrefix + cookieStem
	}
	return cookieStem
}

// setCookie gives the browser a cookie, or ends it if the value is empty. SameSite=Lax lets it
// come back with the redirect from the identity provider.
func (h *Handler) setCookie(w http.ResponseWriter, name, value string) {
	cookie := &http.Cookie{ //nolint:gosec // without https, which is for the loopback alone, browsers would drop a Secure one
		Name: name, Value: value, Path: "/", MaxAge: int(transactionLife / time.Second),
		HttpOnly: true, Secure: h.secure(), SameSite: http.SameSiteLaxMode,
	}
	if value == "" {
		cookie.MaxAge = -1
	}
	http.SetCookie(w, cookie)
}

// cookieOf returns the value of the one cookie of that name; "" if there is none, or if there
// are two, of which one is not ours.
func cookieOf(r *http.Request, name string) string {
	found := r.CookiesNamed(name)
	if len(found) != 1 {
		return ""
	}
	return found[0].Value
}

// makeRoom ends the oldest logins of this browser, so that with one more of that size the
// browser's next request is not too large. It ends those that are over in any case.
func (h *Handler) makeRoom(w http.ResponseWriter, r *http.Request, size int) {
	type login struct {
		name  string
		size  int
		began int64
	}
	var logins []login
	total := size
	for _, cookie := range r.Cookies() {
		if !strings.HasPrefix(cookie.Name, h.cookieStem()) {
			continue
		}
		l := login{name: cookie.Name, size: len(cookie.Name) + len(cookie.Value) + len("=; "), began: h.began(cookie)}
		if h.over(l.began) {
			h.setCookie(w, l.name, "")
			continue
		}
		logins = append(logins, l)
		total += l.size
	}
	slices.SortStableFunc(logins, func(a, b login) int { return int(a.began - b.began) })
	for _, l := range logins {
		if total <= maxCookies {
			return
		}
		h.setCookie(w, l.name, "")
		total -= l.size
	}
}

// began returns when the login of a cookie began; 0 if the cookie is not one of ours. It does
// not ask for newer keys: a cookie that another gateway has sealed under a newer key began
// just now.
func (h *Handler) began(cookie *http.Cookie) int64 {
	plain, err := h.Sealer.Open(purposeTransaction, []byte(cookie.Name), cookie.Value)
	if errors.Is(err, seal.ErrNewerKey) || errors.Is(err, seal.ErrNoKeys) {
		return h.Now().Unix()
	}
	var t transaction
	if err != nil || json.Unmarshal(plain, &t) != nil {
		return 0
	}
	return t.Began
}

// over reports whether the time for a login that began then is over. It also reports
// true for a beginning in the future, beyond the difference of two gateways' clocks.
func (h *Handler) over(began int64) bool {
	age := h.Now().Sub(time.Unix(began, 0))
	return age > transactionLife || age < -skew
}
