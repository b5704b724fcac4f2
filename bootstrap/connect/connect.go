// Package connect reaches Vault as Vault's own CLI does. If it cannot, it gives the reason
// and the remedy in one line.
package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// retries is how often Vault's own CLI repeats a request, unless VAULT_MAX_RETRIES says.
const retries = 2

// FromEnvironment is a client with the settings of Vault's own CLI: VAULT_ADDR,
// VAULT_NAMESPACE, VAULT_CACERT… and VAULT_TOKEN, else the file of `vault login`. It warns on
// stderr of settings that should not stay.
func FromEnvironment(stderr io.Writer) (*api.Client, error) {
	settings := config.DefaultVaultClient()
	settings.MaxRetries = retries
	if mistakes := settings.Environment(os.Getenv); len(mistakes) > 0 {
		texts := make([]string, 0, len(mistakes))
		for _, mistake := range mistakes {
			texts = append(texts, mistake.Error())
		}
		return nil, errors.New(strings.Join(texts, "\n"))
	}
	for _, warning := range settings.Warnings() {
		fmt.Fprintf(stderr, "mcp-bootstrap: warning: %s\n", warning)
	}
	if os.Getenv(config.EnvVaultWrapTTL) != "" {
		fmt.Fprintf(stderr, "mcp-bootstrap: warning: %s has no effect here: this program must read Vault's answers itself\n", config.EnvVaultWrapTTL)
	}
	client, err := vaultclient.New(settings, vaultclient.Options{Limit: true})
	if err != nil {
		return nil, fmt.Errorf("cannot use the VAULT_… variables: %w", err)
	}
	client.SetToken(token())
	if client.Token() == "" {
		return nil, fmt.Errorf("there is no token for Vault at %s: set VAULT_TOKEN, or run `vault login`", client.Address())
	}
	if factors := os.Getenv(config.EnvVaultMFA); factors != "" {
		client.SetMFACreds(strings.Split(factors, ","))
	}
	return client, nil
}

// token is the one to use; "" where there is none.
func token() string {
	if token := os.Getenv(config.EnvVaultToken); token != "" {
		return token
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	content, err := os.ReadFile(filepath.Join(home, ".vault-token"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

// Errors of Check.
var (
	ErrUninitialized = errors.New("it is not initialized: run `vault operator init`")
	ErrSealed        = errors.New("it is sealed: run `vault operator unseal` on each server")
)

// Check is nil where Vault answers, is unsealed, has the namespace that is asked
// for, and accepts the token.
func Check(ctx context.Context, client *api.Client) error {
	health, err := Health(ctx, client)
	switch {
	case err != nil:
		return err
	case !health.Initialized:
		return fmt.Errorf("cannot use Vault at %s: %w", client.Address(), ErrUninitialized)
	case health.Sealed:
		return fmt.Errorf("cannot use Vault at %s: %w", client.Address(), ErrSealed)
	}
	if namespace := client.Namespace(); namespace != "" && !health.Namespaces {
		return fmt.Errorf("cannot use the namespace %q: Vault at %s has none, since it is not Vault Enterprise, "+
			"and would take each request for one without a namespace: unset VAULT_NAMESPACE", namespace, client.Address())
	}
	_, err = client.Auth().Token().LookupSelfWithContext(ctx)
	if IsInvalidToken(err) {
		return fmt.Errorf("cannot use Vault at %s: %w", client.Address(), Explain(err))
	}
	return nil // a token that may not look itself up may do everything else
}

// State is the state that Vault shows without a token.
type State struct {
	Initialized, Sealed bool
	Version             string
	Cluster             string // its name
	// Time is Vault's, in whole seconds.
	Time time.Time
	// Namespaces reports whether this edition of Vault has them.
	Namespaces bool
}

// answerTimeout bounds the wait for the first answer.
const answerTimeout = 15 * time.Second

// Health asks Vault for its state.
func Health(ctx context.Context, client *api.Client) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	// Its path is not part of any namespace.
	answer, err := client.WithNamespace("").Logical().ReadRawWithDataWithContext(ctx, "sys/health", map[string][]string{
		"uninitcode": {"200"}, "sealedcode": {"200"}, "standbycode": {"200"}, "performancestandbycode": {"200"},
	})
	if answer != nil {
		defer answer.Body.Close()
	}
	noVault := fmt.Errorf("%s is not a Vault: point VAULT_ADDR at one", client.Address())
	var failed *api.ResponseError
	switch {
	case errors.As(err, &failed) && failed.RawError && Advice(err) == "":
		return State{}, noVault
	case err != nil:
		return State{}, fmt.Errorf("cannot reach Vault at %s: %w", client.Address(), Explain(err))
	}
	var body struct {
		Initialized *bool  `json:"initialized"`
		Sealed      bool   `json:"sealed"`
		Enterprise  *bool  `json:"enterprise"`
		Version     string `json:"version"`
		Cluster     string `json:"cluster_name"`
		Time        int64  `json:"server_time_utc"`
	}
	if err := answer.DecodeJSON(&body); err != nil || body.Initialized == nil {
		return State{}, noVault
	}
	return State{
		Initialized: *body.Initialized, Sealed: body.Sealed, Version: body.Version, Cluster: body.Cluster, Time: time.Unix(body.Time, 0),
		// OpenBao has namespaces, and does not report an edition.
		Namespaces: body.Enterprise == nil || *body.Enterprise,
	}, nil
}
