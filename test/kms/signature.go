package kms

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	service     = "kms"
	maxSkew     = 5 * time.Minute
	timeFormat  = "20060102T150405Z"
	shortFormat = "20060102"
)

// required are the headers that a signature must cover, beside every X-Amz-* header of
// the request.
var required = []string{"host", "x-amz-date", "x-amz-target"}

// authorization is a parsed Authorization header.
type authorization struct {
	accessKeyID string
	date        string
	region      string
	service     string
	headers     []string // lower-case
	signature   string
}

// authenticate returns the identity that has signed the request. It signs the request
// again, with the SDK's own signer and the secret of the named identity, and compares.
func (s *Server) authenticate(r *http.Request, body []byte) (*Identity, *Failure) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, failf("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	a, failure := parseAuthorization(header)
	if failure != nil {
		return nil, failure
	}
	identity := s.identity(a.accessKeyID)
	if identity == nil || identity.SessionToken != r.Header.Get("X-Amz-Security-Token") {
		return nil, failf("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	at, failure := s.checkScope(a, r.Header.Get("X-Amz-Date"))
	if failure != nil {
		return nil, failure
	}
	if failure := checkCovered(a, r.Header); failure != nil {
		return nil, failure
	}
	want, err := sign(r, a, identity, body, at)
	if err != nil || !hmac.Equal([]byte(want), []byte(a.signature)) {
		return nil, failf("InvalidSignatureException", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return identity, nil
}

func (s *Server) identity(accessKeyID string) *Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.opts.Identities {
		if s.opts.Identities[i].AccessKeyID == accessKeyID {
			found := s.opts.Identities[i]
			return &found
		}
	}
	return nil
}

func parseAuthorization(header string) (*authorization, *Failure) {
	rest, ok := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
	if !ok {
		return nil, failf("IncompleteSignatureException", "Unsupported AWS 'algorithm'")
	}
	a := &authorization{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			scope := strings.Split(value, "/")
			if len(scope) != 5 || scope[4] != "aws4_request" {
				return nil, failf("IncompleteSignatureException", "Credential must have exactly 5 slash-delimited elements")
			}
			a.accessKeyID, a.date, a.region, a.service = scope[0], scope[1], scope[2], scope[3]
		case "SignedHeaders":
			a.headers = strings.Split(value, ";")
		case "Signature":
			a.signature = value
		}
	}
	if a.accessKeyID == "" || a.headers == nil || a.signature == "" {
		return nil, failf("IncompleteSignatureException", "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters.")
	}
	return a, nil
}

// checkScope checks the signature's region, service and date.
func (s *Server) checkScope(a *authorization, date string) (time.Time, *Failure) {
	at, err := time.Parse(timeFormat, date)
	if err != nil {
		return at, failf("IncompleteSignatureException", "Date must be in ISO-8601 'basic format'.")
	}
	now := s.opts.Now().UTC()
	switch {
	case a.date != at.Format(shortFormat):
		return at, failf("InvalidSignatureException", "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s'.", a.date, at.Format(shortFormat))
	case a.region != s.opts.Region:
		return at, failf("InvalidSignatureException", "Credential should be scoped to a valid region.")
	case a.service != service:
		return at, failf("InvalidSignatureException", "Credential should be scoped to correct service: '%s'.", service)
	case at.Before(now.Add(-maxSkew)):
		return at, failf("InvalidSignatureException", "Signature expired: %s is now earlier than %s (%s - 5 min.)", date, now.Add(-maxSkew).Format(timeFormat), now.Format(timeFormat))
	case at.After(now.Add(maxSkew)):
		return at, failf("InvalidSignatureException", "Signature not yet current: %s is still later than %s (%s + 5 min.)", date, now.Add(maxSkew).Format(timeFormat), now.Format(timeFormat))
	}
	return at, nil
}

// checkCovered refuses a request with an unsigned header that matters.
func checkCovered(a *authorization, header http.Header) *Failure {
	must := slices.Clone(required)
	for name := range header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") {
			must = append(must, name)
		}
	}
	for _, name := range must {
		if !slices.Contains(a.headers, name) {
			return failf("InvalidSignatureException", "'%s' must be a 'SignedHeader' in the AWS Authorization.", name)
		}
	}
	return nil
}

// sign returns the signature that the request should have.
func sign(r *http.Request, a *authorization, identity *Identity, body []byte, at time.Time) (string, error) {
	again := &http.Request{
		Method: r.Method,
		Host:   r.Host,
		URL:    &url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawQuery: r.URL.RawQuery},
		Header: http.Header{},
	}
	for _, name := range a.headers {
		switch name {
		case "host":
		case "content-length":
			again.ContentLength = int64(len(body))
		default:
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	sum := sha256.Sum256(body)
	credentials := aws.Credentials{
		AccessKeyID: identity.AccessKeyID, SecretAccessKey: identity.SecretAccessKey, SessionToken: identity.SessionToken,
	}
	if err := v4.NewSigner().SignHTTP(r.Context(), credentials, again, hex.EncodeToString(sum[:]), service, a.region, at); err != nil {
		return "", err
	}
	_, signature, _ := strings.Cut(again.Header.Get("Authorization"), "Signature=")
	return signature, nil
}
