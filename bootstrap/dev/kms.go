package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"vault-plugin-secrets-mcp/bootstrap/process"
)

// With Options.KMS, a double of AWS KMS runs beside Vault, and tokens are handed
// out sealed. It is this project's test double, and a process of its own: no
// program that is shipped has any of it.

// kmsFile is where the double says how to reach it.
const kmsFile = "kms.env"

// kmsKey is the key that the double makes.
const kmsKey = "alias/mcp"

// kmsBlock is the gateway's, which asks often so that changes are soon seen.
const kmsBlock = `kms {
  refresh = "5s"
}
`

// startKMS starts the double, and waits until it has printed its address.
func (s *system) startKMS(ctx context.Context) error {
	if err := os.RemoveAll(s.path(kmsFile)); err != nil {
		return fmt.Errorf("cannot replace the file: %w", err)
	}
	double, err := s.group.Start(process.Spec{
		Name: "the double of AWS KMS",
		Path: s.KMSDouble,
		Args: []string{"-address=127.0.0.1:0", "-alias=" + kmsKey, "-env=" + s.path(kmsFile)},
		Log:  s.log("kms"),
	})
	if err != nil {
		return err
	}
	return double.Await(ctx, startTimeout, func(context.Context) error {
		var err error
		s.kms, err = readExports(s.path(kmsFile))
		return err
	})
}

var errNoExports = errors.New("it is not written yet")

// readExports reads the lines "export NAME=VALUE" of a file for a shell.
func readExports(path string) (map[string]string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(string(content), "\n") {
		return nil, fmt.Errorf("%s: %w", path, errNoExports)
	}
	variables := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if line, ok := strings.CutPrefix(strings.TrimSpace(line), "export "); ok {
			name, value, _ := strings.Cut(line, "=")
			variables[name] = value
		}
	}
	return variables, nil
}

// sealTokens has the engine hand out sealed tokens.
func (s *system) sealTokens(ctx context.Context) error {
	vault, err := s.vaultClient()
	if err != nil {
		return err
	}
	for _, write := range []struct {
		path string
		data map[string]any
	}{
		{"config/kms", map[string]any{
			"key_id": kmsKey, "region": s.kms["AWS_REGION"], "endpoint": s.kms["AWS_ENDPOINT_URL_KMS"],
			"access_key": s.kms["AWS_ACCESS_KEY_ID"], "secret_key": s.kms["AWS_SECRET_ACCESS_KEY"],
		}},
		{"config", map[string]any{"seal": "kms"}},
	} {
		if _, err := vault.Logical().WriteWithContext(ctx, mount+"/"+write.path, write.data); err != nil {
			return fmt.Errorf("cannot write %s/%s: %w", mount, write.path, err)
		}
	}
	return nil
}

// kmsEnvironment is the environment of a program that asks the double. It replaces the
// shell's settings of AWS.
func (s *system) kmsEnvironment() []string {
	environment := []string{"AWS_PROFILE=", "AWS_SESSION_TOKEN=", "AWS_EC2_METADATA_DISABLED=true"}
	for name, value := range s.kms {
		environment = append(environment, name+"="+value)
	}
	return environment
}
