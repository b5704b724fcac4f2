package stdio

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

const privateKey = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJc\n-----END PRIVATE KEY-----\n"

func TestAChildFindsItsFilesInItsHome(t *testing.T) {
	ways := accountsOfChildren()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			command := publicCopy(t)
			l, _ := launcher(t, func(s *config.Stdio) {
				s.AllowedCommands = []string{command}
				way(s)
			})
			server := scriptedServer(t, "")
			server.Command = command
			server.Args = []string{"{{file.KEY}}"}
			values := valuesOf(server)
			values.Env["KEY_FILE"], values.Env["BOTH"] = "{{file.KEY}}", "key={{file.KEY}},conf={{file.app.conf}},{{file.OTHER}}"
			values.Files = map[string]string{"KEY": privateKey, "app.conf": "{{file.KEY}}"}
			r := newReceiver()
			p, err := l.Start(server, values, r)
			require.NoError(t, err)
			t.Cleanup(p.Close)
			folder := filepath.Join(p.resources.home, ".files")

			require.Equal(t, "{{file.KEY}}<nil>", shell(t, p, r, `tr '\0' '\n' < /proc/$PPID/cmdline | tail -n 1 | tr -d '\n'`), "arguments are never changed")
			require.Equal(t, fmt.Sprintf("%[1]s/KEY key=%[1]s/KEY,conf=%[1]s/app.conf,{{file.OTHER}}\n<nil>", folder), shell(t, p, r, `echo $KEY_FILE $BOTH`))
			require.Equal(t, privateKey+"{{file.KEY}}<nil>", shell(t, p, r, `cat $KEY_FILE %s/app.conf`, folder), "contents are never changed")
			require.Equal(t, "700\n600\n600\n<nil>", shell(t, p, r, `stat -c %%a %[1]s %[1]s/KEY %[1]s/app.conf`, folder))
			require.Equal(t, "ok\n<nil>", shell(t, p, r, `id=$(id -u); for f in %[1]s %[1]s/KEY %[1]s/app.conf; do test "$(stat -c %%u $f)" = $id || echo $f; done; echo ok`, folder), "they are its own")

			p.Close()
			_ = r.end(t)
			l.running.Wait()
			require.NoDirExists(t, p.resources.home)
		})
	}
}

func TestAFileHasANameAndNoPath(t *testing.T) {
	l, _ := launcher(t, nil)
	server := scriptedServer(t, "")
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc/passwd", ".hidden", "a\x00", "a b"} {
		_, err := l.Start(server, Values{Env: server.Env, Files: map[string]string{name: "x"}}, newReceiver())
		require.ErrorContains(t, err, "files:", name)
		server.Files = map[string]string{name: "x"}
		require.ErrorContains(t, l.Check(server), "files:", name)
	}
}

func TestAFileThatCannotBeWrittenLeavesNoHome(t *testing.T) {
	l, _ := launcher(t, nil)
	server := scriptedServer(t, "")
	_, err := l.Start(server, Values{Env: server.Env, Files: map[string]string{"OK": "x", strings.Repeat("x", 300): "x"}}, newReceiver())
	require.ErrorIs(t, err, syscall.ENAMETOOLONG)
	homes, err := os.ReadDir(l.homes.run)
	require.NoError(t, err)
	require.Empty(t, homes)
}

func TestAChildIsStartedWithItsValuesAndNotTheRegistrations(t *testing.T) {
	l, _ := launcher(t, nil)
	server := scriptedServer(t, "")
	values := Values{Env: map[string]string{"MCP_SCRIPTED_SERVER": "", "PASSWORD": "of-alice"}}
	server.Env["PASSWORD"], server.Env["OTHER"] = "{{db.password}}", "x"
	r := newReceiver()
	p, err := l.Start(server, values, r)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	require.Equal(t, "of-alice.<nil>", shell(t, p, r, `printf %%s "$PASSWORD.$OTHER"`))
}

func TestNoValueOfAChildIsInTheLog(t *testing.T) {
	l, log := launcher(t, nil)
	server := scriptedServer(t, "")
	values := valuesOf(server)
	values.Env["URL"] = "postgres://alice:leased-password@db/orders"
	values.Env["NAME"] = "v-alice-orders"
	values.Files = map[string]string{"KEY": strings.ReplaceAll(privateKey, "\n", "\r\n")}
	values.Secrets = []string{"leased-password"}
	r := newReceiver()
	p, err := l.Start(server, values, r)
	require.NoError(t, err)
	shell(t, p, r, `exec 2>/proc/$PPID/fd/2; echo it says $URL and $NAME >&2; cat $HOME/.files/KEY >&2; echo leased-password >&2; echo the end >&2`)
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "the end") }, 10*time.Second, time.Millisecond)
	p.Close()
	_ = r.end(t)
	require.Contains(t, log.String(), "it says [hidden] and [hidden]")
	for _, secret := range []string{"alice", "leased-password", "MC4CAQ"} {
		require.NotContains(t, log.String(), secret)
		require.NotContains(t, p.tail.text(), secret)
	}
}

func TestAChildThatIsKilledHasNoTime(t *testing.T) {
	for name, before := range map[string]func(*Process){
		"at once":                  func(*Process) {},
		"while it is about to end": func(p *Process) { p.Close() },
	} {
		for _, mode := range []string{"", "stubborn"} {
			t.Run(name+", mode "+mode, func(t *testing.T) {
				l, _ := launcher(t, func(s *config.Stdio) { s.StopTimeout = time.Minute })
				p, r := start(t, l, scriptedServer(t, mode))
				require.NoError(t, p.Send(call("breed")))
				grandchild, err := strconv.Atoi(strings.Split(strings.Split(r.next(t), `"text":"`)[1], `"`)[0])
				require.NoError(t, err)
				before(p)
				began := time.Now()
				p.Kill()
				p.Close()
				p.Kill()
				_ = r.end(t)
				require.Less(t, time.Since(began), 500*time.Millisecond)
				require.False(t, alive(p.cmd.Process.Pid))
				require.Eventually(t, func() bool { return !alive(grandchild) || zombie(grandchild) }, 10*time.Second, time.Millisecond)
			})
		}
	}
}

func TestAProcessThatHasLeftTheGroupDoesNotDelayTheKill(t *testing.T) {
	l, _ := launcher(t, nil)
	p, r := start(t, l, scriptedServer(t, "stubborn"))
	pid, err := strconv.Atoi(strings.Fields(shell(t, p, r, `setsid sleep 600 >/proc/$PPID/fd/1 2>/proc/$PPID/fd/2 </dev/null & echo $!`))[0])
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	began := time.Now()
	p.Kill()
	_ = r.end(t)
	require.Less(t, time.Since(began), 800*time.Millisecond)
}
