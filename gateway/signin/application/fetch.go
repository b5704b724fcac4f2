package application

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/gateway/dial"
	"vault-plugin-secrets-mcp/gateway/signin/uri"
)

// Strangers choose these URLs, below the prefixes of the file. So a fetch is small, short and
// goes where it says.
const (
	fetchTimeout = 3 * time.Second
	maxBody      = 64 << 10
	maxHeader    = 16 << 10
	maxFetches   = 32 // at once

	minAge     = time.Minute // the least time for which a document is kept
	defaultAge = 10 * time.Minute
	maxAge     = 24 * time.Hour
)

// fetchError is the failure of a fetch, in words for people; the cause is for the log,
// since it names addresses.
type fetchError struct {
	words string
	cause error
}

func (e *fetchError) Error() string {
	if e.cause == nil {
		return e.words
	}
	return e.words + ": " + e.cause.Error()
}

func (e *fetchError) Unwrap() error { return e.cause }

// wordsOf are the words for people of an error of a cache.
func wordsOf(err error) string {
	var fetch *fetchError
	if errors.As(err, &fetch) {
		return fetch.words
	}
	return err.Error()
}

// fetcher gets documents over https.
type fetcher struct {
	dial    func(host string) dial.Func
	roots   *x509.CertPool
	timeout time.Duration // of one fetch, all of it
	slots   chan struct{}
}

// get returns the body of a document, and how long it may be kept.
func (f *fetcher) get(ctx context.Context, u *uri.URI) ([]byte, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return nil, 0, &fetchError{words: "too many documents are being fetched", cause: ctx.Err()}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.Text, http.NoBody)
	if err != nil {
		return nil, 0, &fetchError{words: "its URL is not valid", cause: err}
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "mcp-gateway")
	client := f.client(request.URL.Hostname())
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return nil, 0, &fetchError{words: "it could not be fetched", cause: err}
	}
	defer response.Body.Close()
	body, err := readBody(response)
	if err != nil {
		return nil, 0, err
	}
	return body, ageOf(response.Header), nil
}

// client is for one host. It knows no proxy, whose address would be checked instead, keeps
// no cookies, and follows no redirects: where a redirect leads, the file does not say.
func (f *fetcher) client(host string) *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            f.dial(host),
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: f.roots},
			TLSHandshakeTimeout:    f.timeout,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeader,
		},
	}
}

func readBody(response *http.Response) ([]byte, error) {
	switch status := response.StatusCode; {
	case status >= 300 && status < 400:
		return nil, &fetchError{words: fmt.Sprintf("its server redirects (status %d), which is not followed", status)}
	case status != http.StatusOK:
		return nil, &fetchError{words: fmt.Sprintf("its server answers with status %d", status)}
	}
	if kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return nil, &fetchError{words: "its server does not say that it is JSON", cause: err}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, &fetchError{words: "it could not be read", cause: err}
	case len(body) > maxBody:
		return nil, &fetchError{words: fmt.Sprintf("it is larger than %d KB", maxBody>>10)}
	}
	return body, nil
}

// ageOf is how long an answer may be kept (RFC 9111 §5.2.2), within our bounds.
func ageOf(header http.Header) time.Duration {
	age := defaultAge
	for directive := range strings.SplitSeq(strings.Join(header.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return minAge
		case "max-age":
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil {
				return minAge
			}
			age = time.Duration(seconds) * time.Second
		}
	}
	return min(max(age, minAge), maxAge)
}
