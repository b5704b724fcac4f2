// Command kms-double runs the test double of AWS KMS by itself, to try sealed
// tokens without an AWS account. It makes one key, and writes a client's
// settings to an environment file. Nothing outlives it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"vault-plugin-secrets-mcp/test/kms"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "kms-double:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var opts kms.Options
	flags := flag.NewFlagSet("kms-double", flag.ContinueOnError)
	flags.StringVar(&opts.Address, "address", "127.0.0.1:9099", "where to listen: an address of the loopback; port 0 lets the kernel choose")
	flags.StringVar(&opts.Region, "region", "us-east-1", "the region that requests are signed for")
	alias := flags.String("alias", "alias/mcp", "the name of the key that is made")
	env := flags.String("env", "kms.env", "the `file` for the endpoint and the credentials, to be sourced by a shell")
	if err := flags.Parse(args); err != nil {
		return err
	}
	server, err := kms.Start(opts)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	key := server.CreateKey(*alias)
	if err := os.WriteFile(*env, []byte(environment(server)), 0o600); err != nil {
		return err
	}
	fmt.Printf("KMS double (not AWS) at %s, key %s = %s, credentials in %s\n", server.URL(), *alias, key, *env)
	<-ctx.Done()
	return nil
}

// environment has the variables that the AWS SDKs and the AWS CLI read. Version 1 of the
// CLI has another variable for the region. It also unsets the shell's other variables of
// AWS, which would count as well.
func environment(s *kms.Server) string {
	id := s.Identity()
	return fmt.Sprintf("unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL\n"+
		"export AWS_ENDPOINT_URL_KMS=%s\nexport AWS_REGION=%s\nexport AWS_DEFAULT_REGION=%s\n"+
		"export AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\n",
		s.URL(), s.Region(), s.Region(), id.AccessKeyID, id.SecretAccessKey)
}
