package config

import (
	"errors"
	"path/filepath"
	"slices"
)

var (
	// ErrNotAllowed: the gateway's file does not allow the command.
	ErrNotAllowed = errors.New("the command is not in allowed_commands of the gateway's stdio block")
	// ErrAmbiguous: the command is a bare name that several programs have.
	ErrAmbiguous = errors.New("the command is a bare name that more than one of allowed_commands ends with: register it with its absolute path")
)

// Program returns the path of a registered command. A bare name, as policies and
// other products' files have it ("npx"), stands for the one allowed program of
// that name: PATH decides nothing.
func (s *Stdio) Program(command string) (string, error) {
	if slices.Contains(s.AllowedCommands, command) {
		return command, nil
	}
	found := ""
	for _, path := range s.AllowedCommands {
		if filepath.Base(path) != command {
			continue
		}
		if found != "" && found != path {
			return "", ErrAmbiguous
		}
		found = path
	}
	if found == "" {
		return "", ErrNotAllowed
	}
	return found, nil
}
