package connect

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// endpoint is the part of a URL that the gateway itself adds: people paste the URL of
// a client's configuration as the gateway's.
var endpoint = regexp.MustCompile(`(/mcp|/servers/[^/]*/mcp)?/*$`)

// GatewayURL is where a gateway answers, without the path of an endpoint: the same for
// https://mcp.example.com, https://mcp.example.com/mcp and
// https://mcp.example.com/servers/github/mcp/.
func GatewayURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("%q is not an address such as https://mcp.example.com", text)
	}
	text = strings.TrimRight(text, "/")
	return text[:endpoint.FindStringIndex(text)[0]], nil
}
