package check

import (
	"fmt"
	"strings"
	"testing"
)

func remote(change func(*Server)) *Server {
	s := &Server{Transport: TransportHTTP, URL: "https://h.example/"}
	change(s)
	return s
}

func child(change func(*Server)) *Server {
	s := &Server{Transport: TransportStdio, Command: "/bin/server"}
	change(s)
	return s
}

func pairs(n, size int) map[string]string {
	all := map[string]string{}
	for i := range n {
		all[fmt.Sprintf("X%d", i)] = strings.Repeat("v", size)
	}
	return all
}

func TestARegistrationHasBounds(t *testing.T) {
	for name, tc := range map[string]struct {
		server *Server
		field  string // "": it is fine
	}{
		"a long description":         {remote(func(s *Server) { s.Description = strings.Repeat("d", maxDescription) }), ""},
		"a description without end":  {remote(func(s *Server) { s.Description = strings.Repeat("d", maxDescription+1) }), "description"},
		"many headers":               {remote(func(s *Server) { s.Headers = pairs(maxPairs, 100) }), ""},
		"too many headers":           {remote(func(s *Server) { s.Headers = pairs(maxPairs+1, 1) }), "headers"},
		"a long header":              {remote(func(s *Server) { s.Headers = pairs(1, maxHeaderValue) }), ""},
		"a header without end":       {remote(func(s *Server) { s.Headers = pairs(1, maxHeaderValue+1) }), "headers"},
		"headers without end":        {remote(func(s *Server) { s.Headers = pairs(100, 2000) }), "headers"},
		"a name without end":         {remote(func(s *Server) { s.Headers = map[string]string{strings.Repeat("n", maxPairName+1): ""} }), "headers"},
		"too many variables":         {child(func(s *Server) { s.Env = pairs(maxPairs+1, 1) }), "env"},
		"a variable without end":     {child(func(s *Server) { s.Env = pairs(1, maxEnvValue+1) }), "env"},
		"an environment without end": {child(func(s *Server) { s.Env = pairs(100, 2000) }), "env"},
		"too many arguments":         {child(func(s *Server) { s.Args = make([]string, maxArgs+1) }), "args"},
		"arguments without end":      {child(func(s *Server) { s.Args = []string{strings.Repeat("a", maxArgsSize+1)} }), "args"},
		"a command without end":      {child(func(s *Server) { s.Command = "/" + strings.Repeat("c", maxCommand) }), "command"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := tc.server.Check()
			if tc.field == "" {
				if err := problems.Err(); err != nil {
					t.Error(err)
				}
				return
			}
			if len(problems) != 1 || problems[0].Field != tc.field || len(problems[0].Error()) > 1000 {
				t.Errorf("refused: %v", problems.Err())
			}
		})
	}
}

// Many programs' files have ${NAME} in the place of a secret. Nothing here expands it.
func TestVariablesAreRefusedEverywhere(t *testing.T) {
	for _, variable := range []string{"${TOKEN}", "Bearer ${TOKEN}", "${TOKEN:-none}", "${env:TOKEN}", "${input:token}", "a${B", "${}"} {
		for field, s := range map[string]*Server{
			"url":     remote(func(s *Server) { s.URL = "https://h.example/?key=" + variable }),
			"headers": remote(func(s *Server) { s.Headers = map[string]string{"Authorization": variable} }),
			"command": child(func(s *Server) { s.Command = "/bin/" + variable }),
			"args":    child(func(s *Server) { s.Args = []string{"--token", variable} }),
			"env":     child(func(s *Server) { s.Env = map[string]string{"TOKEN": variable} }),
		} {
			problems := s.Check()
			if len(problems) != 1 || problems[0].Field != field || !strings.Contains(problems[0].Error(), "not expanded") {
				t.Errorf("%s = %s: %v", field, variable, problems.Err())
			}
		}
	}
	for _, value := range []string{"$TOKEN", "{TOKEN}", "pa$$word{1}", "$"} {
		if err := remote(func(s *Server) { s.Headers = map[string]string{"X-Key": value} }).Check().Err(); err != nil {
			t.Errorf("%s: %v", value, err)
		}
	}
	if err := remote(func(s *Server) { s.Headers = map[string]string{"X-Key": "s3cret${"} }).Check().Err(); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error holds the value: %v", err)
	}
}

func TestTransportsByTheirOtherNames(t *testing.T) {
	for name, want := range map[string]string{
		"streamable_http": "http", "streamable-http": "http", "streamableHttp": "http", "Streamable HTTP": "http",
		"http": "http", "sse": "sse", "stdio": "stdio", "ws": "ws", "HTTP": "HTTP", "": "",
	} {
		if got := Transport(name); got != want {
			t.Errorf("Transport(%q) = %q", name, got)
		}
	}
}

func TestHeadersThatNoRegistrationSets(t *testing.T) {
	for name, reserved := range map[string]bool{
		"Authorization": false, "X-Api-Key": false, "x_api_key": false, "Cookie": false, "Mcpx": false, "User-Agent": false,
		"Host": true, "content-length": true, "Content_Length": true, "Origin": true, "Expect": true, "proxy-authorization": true,
		"Mcp-Session-Id": true, "mcp_session_id": true, "MCP-Anything": true, "TE": true,
	} {
		if IsReservedHeader(name) != reserved {
			t.Errorf("%s: reserved is %v", name, !reserved)
		}
		problems := remote(func(s *Server) { s.Headers = map[string]string{name: "x"} }).Check()
		if (len(problems) > 0) != reserved {
			t.Errorf("%s: %v", name, problems)
		}
	}
}
