package dev

import (
	"fmt"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/bootstrap/apply"
)

// With Options.Servers, one's own MCP servers run behind the gateway beside the demo
// servers.

// loadServers reads the file before anything is started, and while the variables that
// it names are still there.
func (s *system) loadServers() error {
	if s.Servers == "" {
		return nil
	}
	servers, notes, err := apply.LoadServers(s.Servers)
	if err != nil {
		return fmt.Errorf("cannot use -servers: %w", err)
	}
	for _, server := range servers {
		if server.Name == calculator || server.Name == notesServer {
			return fmt.Errorf("cannot use -servers: %s: the demo servers are called %s and %s: give yours another name", s.Servers, calculator, notesServer)
		}
	}
	s.own, s.ownNotes = servers, notes
	return nil
}

// allowed are the servers that the client may reach.
func (s *system) allowed() []string {
	names := []string{calculator}
	for _, server := range s.own {
		names = append(names, server.Name)
	}
	return names
}

// commands are the programs that the gateway may start, as its file lists them.
func (s *system) commands() string {
	list := []string{s.Self}
	for _, server := range s.own {
		if server.Command != "" && !slices.Contains(list, server.Command) {
			list = append(list, server.Command)
		}
	}
	for i, command := range list {
		list[i] = fmt.Sprintf("%q", strings.ReplaceAll(command, "${", "$${"))
	}
	return strings.Join(list, ", ")
}
