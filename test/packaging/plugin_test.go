package packaging

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/vault/sdk/helper/pluginutil"
	"github.com/hashicorp/vault/sdk/logical"
	sdkplugin "github.com/hashicorp/vault/sdk/plugin"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"vault-plugin-secrets-mcp/test/harness"
)

// TestThePluginIsOneWithoutVault starts the plugin as Vault does, with go-plugin's own client.
func TestThePluginIsOneWithoutVault(t *testing.T) {
	answersAsAPlugin(t, harness.FindPrograms(t).Plugin)
}

func answersAsAPlugin(t *testing.T, program string) {
	t.Helper()
	for mode, metadataMode := range map[string]string{"to look at it": "true", "to run it": "false"} {
		t.Run(mode, func(t *testing.T) {
			command := exec.CommandContext(t.Context(), program)
			command.Env = []string{pluginutil.PluginMetadataModeEnv + "=" + metadataMode, pluginutil.PluginAutoMTLSEnv + "=true", pluginutil.PluginVaultVersionEnv + "=1.21.0"}
			client := goplugin.NewClient(&goplugin.ClientConfig{
				HandshakeConfig:  sdkplugin.HandshakeConfig,
				VersionedPlugins: sdkplugin.PluginSet,
				Cmd:              command,
				AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
				AutoMTLS:         true,
				SkipHostEnv:      true,
				StartTimeout:     time.Minute,
				Logger:           hclog.NewNullLogger(),
			})
			t.Cleanup(client.Kill)
			connected, err := client.Client()
			require.NoError(t, err)
			require.NoError(t, connected.Ping())
			require.Equal(t, 5, client.NegotiatedVersion())
			require.Equal(t, goplugin.ProtocolGRPC, client.Protocol())

			connection := connected.(*goplugin.GRPCClient).Conn
			supported, err := pluginutil.MultiplexingSupported(t.Context(), connection, "mcp")
			require.NoError(t, err)
			require.True(t, supported, "one process is to serve all mounts")

			backend, err := sdkplugin.Dispense(connected, mount{connected, connection})
			require.NoError(t, err)
			require.NoError(t, backend.Setup(t.Context(), &logical.BackendConfig{
				Logger: hclog.NewNullLogger(), System: logical.TestSystemView(), StorageView: &logical.InmemStorage{}, BackendUUID: "a-mount",
			}))
			require.Equal(t, logical.TypeLogical, backend.Type())
			require.Contains(t, backend.SpecialPaths().SealWrapStorage, "salt")
			number, _, _ := strings.Cut(versionOf(t, program), " ")
			require.Equal(t, number, backend.(logical.PluginVersioner).PluginVersion().Version)
		})
	}
}

// mount is the connection of one mount, which shares the process with others.
type mount struct {
	goplugin.ClientProtocol
	connection grpc.ClientConnInterface
}

func (m mount) Conn() grpc.ClientConnInterface { return m }
func (m mount) Reload() error                  { return errors.ErrUnsupported }

func (m mount) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return m.connection.Invoke(metadata.AppendToOutgoingContext(ctx, "multiplex_id", "a-mount"), method, args, reply, opts...)
}

func (m mount) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return m.connection.NewStream(metadata.AppendToOutgoingContext(ctx, "multiplex_id", "a-mount"), desc, method, opts...)
}

func versionOf(t *testing.T, program string) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), program, "-version").Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(output))
}

func TestAPluginThatSomebodyStartsByHandSaysWhatItIs(t *testing.T) {
	command := exec.CommandContext(t.Context(), harness.FindPrograms(t).Plugin)
	command.Env = []string{} // without Vault's
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 1, exit.ExitCode())
	require.Empty(t, stdout.String())
	require.Contains(t, stderr.String(), "only Vault starts this program")
}
