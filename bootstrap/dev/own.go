package dev

import (
	"fmt"
	"os/exec"
	"path/filepath"
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
	servers = slices.DeleteFunc(servers, func(server apply.Server) bool {
		off := server.Data["disabled"] == true
		if off {
			notes = append(notes, fmt.Sprintf("the server %s is disabled in %s, so it is left out here", server.Name, s.Servers))
		}
		return off
	})
	demos := append([]string{calculator, notesServer}, s.upstreamNames()...)
	for _, server := range servers {
		if slices.Contains(demos, server.Name) {
			return fmt.Errorf("cannot use -servers: %s: the demo servers are called %s: give yours another name", s.Servers, strings.Join(demos, ", "))
		}
	}
	s.own, s.ownNotes = servers, notes
	return s.findPrograms()
}

// findPrograms looks up the commands of one's own servers. The gateway itself
// does not search the PATH: its file lists the programs that are found here.
func (s *system) findPrograms() error {
	for _, server := range s.own {
		if server.Command == "" {
			continue
		}
		path, err := exec.LookPath(server.Command)
		if err != nil {
			return fmt.Errorf("cannot use -servers: %s: server %q: command %q is not a program on the PATH: install it, or write its absolute path", s.Servers, server.Name, server.Command)
		}
		if path, err = filepath.Abs(path); err != nil {
			return err
		}
		if !slices.Contains(s.programs, path) {
			s.programs = append(s.programs, path)
		}
	}
	return nil
}

// allowed are the servers that the client may reach.
func (s *system) allowed() []string {
	return slices.Concat([]string{calculator}, s.upstreamNames(), s.ownNames())
}

func (s *system) ownNames() []string {
	var names []string
	for _, server := range s.own {
		names = append(names, server.Name)
	}
	return names
}

// commands are the programs that the gateway may start, as its file lists them.
func (s *system) commands() string {
	list := append([]string{s.Self}, s.programs...)
	for i, command := range list {
		list[i] = fmt.Sprintf("%q", strings.ReplaceAll(command, "${", "$${"))
	}
	return strings.Join(list, ", ")
}
