package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"

	"vault-plugin-secrets-mcp/gateway/signin/keyset"
)

// authorities is a file of certificates in PEM.
func (s *section) authorities(name string) string {
	path := s.file(name)
	if path != "" && checkReadable(path) == nil {
		if err := checkAuthorities(path); err != nil {
			s.bad(name, "%v", err)
		}
	}
	return path
}

func checkAuthorities(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fileProblem(path, err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(content) {
		return fmt.Errorf("%s has no certificate in PEM", path)
	}
	return nil
}

// keyPair is a certificate and its key, in two files.
func (s *section) keyPair(certName, keyName string) (cert, key string) {
	cert, key = s.file(certName), s.file(keyName)
	switch {
	case cert == "" && key == "":
	case cert == "" || key == "":
		present := certName
		if cert == "" {
			present = keyName
		}
		s.bad(present, "%s and %s go together: give both or none", certName, keyName)
	case checkReadable(cert) == nil && checkReadable(key) == nil:
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			s.bad(certName, "it and %s are not a pair in PEM: %v", keyName, err)
		}
	}
	return cert, key
}

// clientSecretForm is the form of a client_secret (RFC 6749 appendix A.2).
var clientSecretForm = regexp.MustCompile(`^[\x21-\x7e]{22,512}$`)

// ReadClientSecret reads a file with the client_secret of an application.
func ReadClientSecret(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fileProblem(path, err)
	}
	secret := bytes.TrimRight(content, "\r\n")
	if !clientSecretForm.Match(secret) {
		return nil, fmt.Errorf("%s is not a secret of 22 to 512 visible ASCII characters: make one with openssl rand -base64 32", path)
	}
	return secret, nil
}

// clientSecret is a file with the client_secret of an application.
func (s *section) clientSecret(name string) string {
	path := s.file(name)
	if path != "" && checkReadable(path) == nil {
		if _, err := ReadClientSecret(path); err != nil {
			s.bad(name, "%v", err)
		}
	}
	return path
}

// publicKeys is a file with a JWK set.
func (s *section) publicKeys(name string) string {
	path := s.file(name)
	if path == "" || checkReadable(path) != nil {
		return path
	}
	content, err := os.ReadFile(path)
	if err == nil {
		_, err = keyset.Parse(content)
	}
	if err != nil {
		s.bad(name, "%s: %v", path, err)
	}
	return path
}

// file is the path of a file that must be there and readable.
func (s *section) file(name string) string {
	path := s.str(name, "")
	if path != "" {
		s.readable(name, path)
	}
	return path
}

func (s *section) fileDefault(name, fallback string) string {
	path := s.str(name, fallback)
	s.readable(name, path)
	return path
}

func (s *section) readable(name, path string) {
	if err := checkReadable(path); err != nil {
		s.bad(name, "%v", err)
	}
}

func checkReadable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fileProblem(path, err)
	case info.IsDir():
		return fmt.Errorf("%s is a folder: give a file", path)
	case !info.Mode().IsRegular():
		return nil // a pipe can be opened only once, by its reader
	}
	file, err := os.Open(path)
	if err != nil {
		return fileProblem(path, err)
	}
	return file.Close()
}

func fileProblem(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s cannot be read by the account that the gateway runs as", path)
	}
	return err
}

func (s *section) executable(name, path string) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		s.bad(name, "%v", fileProblem(path, err))
	case info.IsDir() || info.Mode()&0o111 == 0:
		s.bad(name, "%s is not a program: it has no permission to be executed", path)
	}
}
