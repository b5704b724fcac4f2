package page

import (
	"strings"
	"time"
)

// connectAgain is the advice where nothing but a new beginning helps.
const connectAgain = "Go back to your application and connect again."

// BeginAgain is for a sign-in that the gateway or Vault no longer knows: its ten minutes
// are over, it was finished before, or Vault's leader changed. Its status is 400.
func BeginAgain() ErrorData {
	return ErrorData{
		Title:   "This sign-in has ended",
		Message: "A sign-in can be finished once, within ten minutes. Now and then one is lost while the system behind it restarts.",
		Advice:  connectAgain,
	}
}

// OtherBrowser is for a callback in a browser that did not begin the sign-in. Its status
// is 400.
func OtherBrowser() ErrorData {
	return ErrorData{
		Title:   "This sign-in began in another browser",
		Message: "A sign-in is finished in the browser in which it began, so that nobody can finish one that somebody else has prepared.",
		Advice:  "If you followed a link that somebody sent to you, close this page. If you began this sign-in yourself, go back to your application and connect again, in one browser and not in a private window.",
	}
}

// MissingCookie is for a form or a callback that comes without the sign-in's cookie. Its
// status is 400.
func MissingCookie() ErrorData {
	return ErrorData{
		Title:   "The sign-in’s cookie is missing",
		Message: "Your browser did not send the cookie that belongs to this sign-in. Either the sign-in is finished already, the browser refuses cookies of this site, the sign-in began in another browser, or it is older than ten minutes.",
		Advice:  "If your application is connected, close this page. Otherwise allow cookies for this site, go back to your application and connect again.",
	}
}

// ForeignForm is for a form that was not sent from the gateway's own page. Its status
// is 403.
func ForeignForm() ErrorData {
	return ErrorData{
		Title:   "This form did not come from the gateway’s page",
		Message: "Your decision counts only on the page that this gateway showed to you.",
		Advice:  connectAgain,
	}
}

// ProviderRefused is for a login that the identity provider refused: its code and its
// description (RFC 6749, section 4.1.2.1). Its status is 403.
func ProviderRefused(code, description string) ErrorData {
	return ErrorData{
		Title:   "Your company’s login refused you",
		Message: "The page on which you signed in sent you back with an error.",
		Advice:  "Go back to your application and connect again. If it happens again, send this page to the people who run your company’s login.",
		Code:    code,
		Detail:  description,
	}
}

// LoginFailed is for a login that Vault refused, with Vault's words. Its status is 403.
func LoginFailed(detail string) ErrorData {
	return ErrorData{
		Title:   "Vault did not accept this login",
		Message: "You signed in, but Vault refused the login.",
		Advice:  "Send this page to the people who run Vault at your company.",
		Detail:  detail,
	}
}

// Administrator is for a person whose Vault token has policies that person_policies does
// not name. Its status is 403.
func Administrator(policies []string) ErrorData {
	return ErrorData{
		Title:   "This account can do too much",
		Message: "Your account has rights in Vault that no application may hold for you.",
		Advice:  "Sign in with an account for daily work. Or ask the people who run Vault at your company: a policy for people belongs into person_policies of the gateway’s sign_in block.",
		Code:    "person_policies",
		Detail:  "Not allowed: " + strings.Join(policies, ", "),
	}
}

// TokenKind is for a login whose Vault token cannot carry a sign-in. The detail names
// the setting of Vault's role. Its status is 403.
func TokenKind(detail string) ErrorData {
	return ErrorData{
		Title:   "This login cannot be used for sign-in",
		Message: "Vault’s role for this login gives tokens of a kind that a sign-in cannot use.",
		Advice:  "Send this page to the people who run Vault at your company.",
		Detail:  detail,
	}
}

// TooMany is for a source with too many requests. Its status is 429.
func TooMany(retryAfter time.Duration) ErrorData {
	advice := "Wait a minute. " + connectAgain
	if words := lasting(retryAfter); words != "" {
		advice = "Wait " + words + ". " + connectAgain
	}
	return ErrorData{
		Title:   "Too many sign-ins at once",
		Message: "Too many sign-ins began at your address in a short time.",
		Advice:  advice,
	}
}

// Unavailable is for a sign-in while Vault, or the audit log, cannot be reached. Its
// status is 503.
func Unavailable() ErrorData {
	return ErrorData{
		Title:   "Sign-in is not available at the moment",
		Message: "The gateway cannot reach the system that knows who you are. Nothing was lost, and nothing was allowed.",
		Advice:  "Wait a minute. " + connectAgain,
	}
}

// RedirectNotAllowed is for a role in Vault that does not have the gateway's callback.
// Its status is 503.
func RedirectNotAllowed(mount, role, callback string) ErrorData {
	return ErrorData{
		Title:   "This login is not set up yet",
		Message: "Vault’s role for this login does not allow the gateway’s address.",
		Advice:  "Send this page to the people who run Vault at your company.",
		Detail:  "Add " + callback + " to allowed_redirect_uris of auth/" + mount + "/role/" + role + ".",
	}
}

// UnknownApplication is for a client_id that the gateway does not know or does not
// accept. The detail says why. Its status is 400.
func UnknownApplication(detail string) ErrorData {
	return ErrorData{
		Title:   "This application is not known here",
		Message: "The application that sent you here is not registered at this gateway, or not any more.",
		Advice:  "Remove the connection in your application and add it again. If that does not help, send this page to the people who run this gateway.",
		Code:    "invalid_client",
		Detail:  detail,
	}
}

// ApplicationUnavailable is for an application whose document cannot be read at the
// moment. The detail says why. Its status is 503.
func ApplicationUnavailable(detail string) ErrorData {
	return ErrorData{
		Title:   "The application cannot be checked at the moment",
		Message: "The gateway could not read the document in which the application’s maker describes it.",
		Advice:  "Wait a minute. " + connectAgain,
		Detail:  detail,
	}
}

// RedirectNotRegistered is for a redirect that the application did not register: the
// browser is not sent there. Its status is 400.
func RedirectNotRegistered(redirect string) ErrorData {
	return ErrorData{
		Title:   "You would have been sent to a wrong address",
		Message: "The application asked to send you to an address that it did not register. The gateway does not do that.",
		Advice:  "If you followed a link that somebody sent to you, close this page. Otherwise remove the connection in your application and add it again.",
		Code:    "invalid_request",
		Detail:  "redirect_uri: " + redirect,
	}
}

// Request is for an authorization request that is not valid, with the code of RFC 6749,
// section 4.1.2.1, or of RFC 8707, and a sentence. Its status is 400.
func Request(code, description string) ErrorData {
	d := ErrorData{
		Title:   "The application’s request is not valid",
		Message: "The application that sent you here asked in a way that this gateway does not accept.",
		Advice:  "Go back to your application and connect again. If it happens again, send this page to the people who run this gateway.",
		Code:    code,
		Detail:  description,
	}
	switch code {
	case "access_denied":
		d.Title, d.Message, d.Advice = "Access was denied", "The application gets no access.", "Close this page, or go back to your application and connect again."
	case "unauthorized_client":
		d.Title, d.Message = "This application may not sign people in", "The application that sent you here is not allowed to use this way of signing in."
	case "invalid_target":
		d.Title, d.Message = "This address is not the gateway’s", "The application asked for access to an address that this gateway does not have."
	case "server_error":
		d.Title, d.Message = "Something went wrong here", "The gateway could not go on with this sign-in."
	case "temporarily_unavailable":
		return withCode(Unavailable(), code, description)
	}
	return d
}

func withCode(d ErrorData, code, detail string) ErrorData {
	d.Code, d.Detail = code, detail
	return d
}
