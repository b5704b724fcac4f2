package idp

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// The variables of the demo program. They hold secrets, and every account of the machine can
// read a command line. A secret that is not set is generated and printed.
const (
	// SecretVariable has the secret of the client.
	SecretVariable = "DEMO_IDP_CLIENT_SECRET" //nolint:gosec // a name, and no secret
	// PasswordVariable has the password of a person, whose name in capitals follows it.
	PasswordVariable = "DEMO_IDP_PASSWORD_" //nolint:gosec // a name, and no password
)

// DemoClient is the client of the demo program.
const DemoClient = "vault"

// DemoPeople are the two people of the demo, each with a password of their own. Alice is in
// two groups and so has a choice; bob is in one.
func DemoPeople(password func(name string) string) []Person {
	return []Person{
		{Name: "alice", Password: password("alice"), Groups: []string{"engineering", "oncall"}},
		{Name: "bob", Password: password("bob"), Groups: []string{"engineering"}},
	}
}

// NewPassword is a password that can be typed.
func NewPassword() string { return strings.ToLower(rand.Text()[:passwordLength]) }

const passwordLength = 12 // of five bits each

// Listening stands before the URL in the line that RunDemo writes when it serves.
const Listening = "listening on "

// RunDemo serves the demo until the context ends. It prints the generated secrets on out, and
// last the address on which it listens.
func RunDemo(ctx context.Context, address string, redirects []string, out io.Writer) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen: %w: choose another with -address", err)
	}
	defer listener.Close()
	given := func(variable, what string) string {
		value := cmp.Or(os.Getenv(variable), NewPassword())
		if os.Getenv(variable) == "" {
			fmt.Fprintf(out, "%s: %s\n", what, value)
		}
		return value
	}
	i, err := startAt(listener, Options{
		ClientID: DemoClient, ClientSecret: given(SecretVariable, "secret of the client "+DemoClient),
		RedirectURIs: redirects, ShowPasswords: true,
		People: DemoPeople(func(name string) string {
			return given(PasswordVariable+strings.ToUpper(name), "password of "+name)
		}),
	})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	if _, err := fmt.Fprintln(out, Listening+i.Issuer()); err != nil {
		return fmt.Errorf("cannot say where the provider listens: %w", err)
	}
	return i.Serve(listener)
}
