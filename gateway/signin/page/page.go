package page

import (
	"net/http"
	"slices"
	"time"
)

// Fields of the forms.
const (
	FieldForm     = "form"     // the text that the gateway has sealed, unchanged
	FieldLogin    = "login"    // the name of the login that was chosen
	FieldIdentity = "identity" // the name of the identity that was chosen
	FieldDecision = "decision" // DecisionAllow or DecisionDeny
)

// Values of [FieldDecision].
const (
	DecisionAllow = "allow"
	DecisionDeny  = "deny"
)

// Login is a way to sign in.
type Login struct {
	Name  string
	Title string // for people; empty is the name
}

// ChooseData is the data of the page on which a person chooses a login.
type ChooseData struct {
	Application string
	Logins      []Login
	Form        string // sealed
	Action      string // where the form goes
}

// Choose answers with the choice of a login.
func Choose(w http.ResponseWriter, d ChooseData) {
	d.Application = applicationName(d.Application)
	d.Logins = slices.Clone(d.Logins)
	for i, l := range d.Logins {
		if l.Title == "" {
			d.Logins[i].Title = l.Name
		}
	}
	render(w, http.StatusOK, "choose", d)
}

// Identity is a client of the engine that the person may let an application act as.
type Identity struct {
	Name        string
	Description string
	Servers     []string // that it reaches now
	AllServers  bool     // it reaches every server that is registered, now and later
}

// ConsentData is the data of the consent page.
type ConsentData struct {
	Application string
	Redirect    string        // the URL to which the browser goes after the decision
	Vouch       string        // a sentence: who vouches for the application; empty is a general one
	Verified    bool          // somebody vouches for the application
	Person      string        // as Vault names the person
	Login       string        // the title of the login; may be empty
	Resource    string        // the URL of the endpoint that the access is for; may be empty
	Lasts       time.Duration // how long the sign-in lasts at most; 0 leaves it out
	Identities  []Identity
	Form        string // sealed
	Action      string // where the form goes
}

// Consent answers with the consent page. Without an identity there is nothing to
// consent to: that is [NoIdentity].
func Consent(w http.ResponseWriter, d ConsentData) {
	render(w, http.StatusOK, "consent", consentViewOf(d))
}

// NoIdentityData is the data of the page for a person without an identity.
type NoIdentityData struct {
	Application string
	Person      string
	Login       string // the title of the login; may be empty
	RequestID   string
	// Form and Action make a button that tells the application of the refusal
	// ([DecisionDeny]). They may be empty.
	Form   string
	Action string
}

// NoIdentity answers a person who has no identity, with the advice whom to ask. The
// status is 403.
func NoIdentity(w http.ResponseWriter, d NoIdentityData) {
	d.Application, d.Person = applicationName(d.Application), clean(d.Person)
	render(w, http.StatusForbidden, "noidentity", d)
}

// ErrorData is the data of a page that explains why a sign-in failed.
type ErrorData struct {
	Title     string
	Message   string // the event
	Advice    string // the remedy
	Code      string // OAuth's or the provider's word for it (RFC 6749, section 4.1.2.1); may be empty
	Detail    string // more for who runs the gateway, such as a setting's name; may be empty
	RequestID string
}

// Error answers with a page that explains why a sign-in failed.
func Error(w http.ResponseWriter, status int, d ErrorData) {
	d.Message, d.Code, d.Detail = clean(d.Message), clean(d.Code), clean(d.Detail)
	render(w, status, "error", d)
}
