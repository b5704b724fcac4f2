package vaultclient

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	"github.com/hashicorp/vault/api/auth/kubernetes"

	"vault-plugin-secrets-mcp/gateway/config"
)

// newAPIClient returns a client that repeats a failed request so many times. That is for
// logins, as the settings say. Callers repeat other requests themselves.
func newAPIClient(settings config.VaultClient, retries int, log hclog.Logger) (*api.Client, error) {
	settings.MaxRetries = retries
	return New(settings, Options{
		IdleConns: LookupsInFlight + 2, // the feed, and a login
		Log:       log,
	})
}

// method is a way to log in.
type method interface {
	name() string
	// login uses a client without a token.
	login(ctx context.Context, client *api.Client) (*ownToken, error)
	// credentialHash is a hash of the files that the next login uses.
	credentialHash() credentialHash
}

// replaceable is a method whose tokens another program renews.
type replaceable interface {
	// changed reports whether the current token is another one than c's.
	changed(c *ownToken) bool
}

func newMethod(options config.Auth) (method, error) {
	switch options.Method {
	case config.AuthAppRole, config.AuthKubernetes, config.AuthJWT:
		return &loginMethod{options: options}, nil
	case config.AuthTokenFile:
		return &tokenFile{path: options.TokenFile}, nil
	}
	return nil, fmt.Errorf("vault: auth method %q is not known", options.Method)
}

// loginMethod is an auth method of Vault. It reads its files at every login.
type loginMethod struct {
	options config.Auth

	// secretID is an unwrapped one: a wrapping token works only once.
	secretID string
}

func (m *loginMethod) name() string { return m.options.Method }

func (m *loginMethod) credentialHash() credentialHash {
	return hashFiles(m.options.RoleIDFile, m.options.SecretIDFile, m.options.JWTFile)
}

func (m *loginMethod) login(ctx context.Context, client *api.Client) (*ownToken, error) {
	auth, err := m.auth(ctx, client)
	if err != nil {
		return nil, err
	}
	sent := time.Now()
	secret, err := auth.Login(ctx, client)
	if err != nil {
		var refused *api.ResponseError
		if errors.As(err, &refused) && refused.StatusCode < 500 {
			m.secretID = "" // the file may have a new one by now
		}
		return nil, err
	}
	if secret == nil || secret.Auth == nil || secret.Auth.ClientToken == "" {
		return nil, errors.New("Vault's answer to the login has no token") //nolint:staticcheck // a name starts it
	}
	token := &ownToken{
		token:     secret.Auth.ClientToken,
		ttl:       seconds(secret.Auth.LeaseDuration),
		renewable: secret.Auth.Renewable,
		obtained:  sent,
		entity:    secret.Auth.EntityID,
	}
	token.setLife(sent, token.ttl)
	return token, nil
}

func (m *loginMethod) auth(ctx context.Context, client *api.Client) (api.AuthMethod, error) {
	switch m.options.Method {
	case config.AuthAppRole:
		return m.appRole(ctx, client)
	case config.AuthKubernetes:
		return kubernetes.NewKubernetesAuth(m.options.Role,
			kubernetes.WithMountPath(m.options.Mount),
			kubernetes.WithServiceAccountTokenPath(m.options.JWTFile))
	}
	jwt, err := readSecret(m.options.JWTFile)
	if err != nil {
		return nil, err
	}
	return &jwtAuth{mount: m.options.Mount, role: m.options.Role, jwt: jwt}, nil
}

func (m *loginMethod) appRole(ctx context.Context, client *api.Client) (api.AuthMethod, error) {
	roleID := m.options.RoleID
	if roleID == "" {
		var err error
		if roleID, err = readSecret(m.options.RoleIDFile); err != nil {
			return nil, err
		}
	}
	secretID := m.secretID
	if secretID == "" {
		var err error
		if secretID, err = readSecret(m.options.SecretIDFile); err != nil {
			return nil, err
		}
		if m.options.WrappedSecretID {
			if secretID, err = unwrapSecretID(ctx, client, secretID); err != nil {
				return nil, err
			}
			m.secretID = secretID
		}
	}
	return approle.NewAppRoleAuth(roleID, &approle.SecretID{FromString: secretID}, approle.WithMountPath(m.options.Mount))
}

func unwrapSecretID(ctx context.Context, client *api.Client, wrapping string) (string, error) {
	secret, err := client.Logical().UnwrapWithContext(ctx, wrapping)
	if err != nil {
		return "", fmt.Errorf("unwrap the secret id: %w", err)
	}
	if secret != nil {
		if id, ok := secret.Data["secret_id"].(string); ok && id != "" {
			return id, nil
		}
	}
	return "", errors.New("unwrap the secret id: the wrapped answer has no secret_id")
}

// jwtAuth logs in with a JWT. Vault's API client has no package for that.
type jwtAuth struct{ mount, role, jwt string }

func (a *jwtAuth) Login(ctx context.Context, client *api.Client) (*api.Secret, error) {
	return client.Logical().WriteWithContext(ctx, "auth/"+a.mount+"/login", map[string]any{"role": a.role, "jwt": a.jwt})
}

// tokenFile reads the token that a Vault Agent writes and renews.
type tokenFile struct{ path string }

func (*tokenFile) name() string { return config.AuthTokenFile }

func (f *tokenFile) credentialHash() credentialHash { return hashFiles(f.path) }

func (f *tokenFile) login(ctx context.Context, client *api.Client) (*ownToken, error) {
	token, err := readSecret(f.path)
	if err != nil {
		return nil, err
	}
	client.SetToken(token)
	sent := time.Now()
	secret, err := client.Auth().Token().LookupSelfWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("the token in %s: %w", f.path, err)
	}
	found := &ownToken{token: token, obtained: sent}
	if secret != nil {
		found.entity, _ = secret.Data["entity_id"].(string)
	}
	return found, nil
}

func (f *tokenFile) changed(c *ownToken) bool {
	token, err := readSecret(f.path)
	return err == nil && token != c.token
}

// readSecret reads a file with one secret.
func readSecret(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(content))
	if secret == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}

// credentialHash is a hash of the files of a login.
type credentialHash [sha256.Size]byte

// hashFiles reads files. An unreadable file counts as empty.
func hashFiles(paths ...string) credentialHash {
	hash := sha256.New()
	for _, path := range paths {
		var sum [sha256.Size]byte
		if content, err := os.ReadFile(path); err == nil {
			sum = sha256.Sum256(content)
		}
		hash.Write(sum[:])
	}
	return credentialHash(hash.Sum(nil))
}
