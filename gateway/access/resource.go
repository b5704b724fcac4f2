package access

import (
	"net/url"
	"strings"

	"vault-plugin-secrets-mcp/gateway/grants"
)

// SignInPath is the prefix of the endpoints for tokens of sign-ins. Behind it stand the paths
// of the other endpoints. Those keep to themselves: metadata there would make clients drop the
// header that they are configured with.
const SignInPath = "/sign-in"

// MetadataPath is where a resource has its metadata, before its own path (RFC 9728, section
// 3.1).
const MetadataPath = "/.well-known/oauth-protected-resource"

// Base is the gateway's public URL as the URLs of its endpoints begin: without a slash at the
// end. It is "" without a public URL.
func Base(public *url.URL) string {
	if public == nil {
		return ""
	}
	return strings.TrimSuffix(public.String(), "/")
}

// checkAudience refuses a token at every resource but its own. Tokens of no sign-in are for
// the endpoints outside of [SignInPath], which are no resource. The client is told what it is
// told about every bad token (RFC 6750, section 3.1).
func checkAudience(grant *grants.Grant, resource string) *Refusal {
	own := ""
	if grant.SignIn != nil {
		own = grant.SignIn.Resource
	}
	if own == resource {
		return nil
	}
	f := invalidToken(ReasonAudience)
	switch {
	case own == "":
		f.Detail = "the token was not got in a sign-in, and is for the endpoints outside of " + SignInPath
	case resource == "":
		f.Detail = "the token was got in a sign-in, and is for " + own + " alone"
	default:
		f.Detail = "the token is for " + own + " alone, not for " + resource
	}
	return f
}

// metadata is the URL of the metadata of the resource that the request names, as the client has
// typed it: some compare it with what they have, byte for byte. It is "" at endpoints that are
// no resource.
func (r *Request) metadata() string {
	if r.Resource == "" || r.gate == nil {
		return ""
	}
	return r.gate.base + MetadataPath + r.typed
}
