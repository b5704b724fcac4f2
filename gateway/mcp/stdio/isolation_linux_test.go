package stdio

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

// shell makes the child run a script, and returns its output and its end.
func shell(t *testing.T, p *Process, r *receiver, script string, args ...any) string {
	t.Helper()
	quoted, err := json.Marshal(fmt.Sprintf(script, args...))
	require.NoError(t, err)
	require.NoError(t, p.Send(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"run","arguments":%s}}`, quoted)))
	var answer struct {
		Result struct{ Content []struct{ Text string } }
	}
	require.NoError(t, json.Unmarshal([]byte(r.next(t)), &answer))
	return answer.Result.Content[0].Text
}

// accountsOfChildren are the ways in which children can run as somebody.
func accountsOfChildren() map[string]func(*config.Stdio) {
	ways := map[string]func(*config.Stdio){"the gateway's own account": func(*config.Stdio) {}}
	if os.Geteuid() == 0 { // who may change accounts
		ways["one account for all"] = func(s *config.Stdio) { s.User = "nobody" }
		ways["an account for each"] = func(s *config.Stdio) { s.UIDs = config.IDRange{First: 70000, Count: 4} }
		ways["an account for each, under a kernel without Landlock"] = func(s *config.Stdio) {
			s.UIDs, s.Isolation = config.IDRange{First: 70000, Count: 4}, config.IsolationOff
		}
	}
	return ways
}

func TestNoChildReadsWhatIsAnothers(t *testing.T) {
	require.NoError(t, domainsSupported(), "these tests need a kernel with Landlock")
	for name, way := range accountsOfChildren() {
		t.Run(name, func(t *testing.T) {
			command := publicCopy(t)
			l, _ := launcher(t, func(s *config.Stdio) {
				s.AllowedCommands = []string{command}
				way(s)
			})
			server := scriptedServer(t, "")
			server.Command = command
			server.Env["SECRET"] = "of-the-spy"
			spy, said := start(t, l, server)
			other := scriptedServer(t, "")
			other.Command, other.Name = command, "other"
			other.Env["SECRET"] = "of-the-victim"
			victim, victimSaid := start(t, l, other)
			require.Contains(t, shell(t, victim, victimSaid, `echo victim > $HOME/file; sleep 600 >/dev/null 2>&1 & echo $! > $TMPDIR/pid; cat $TMPDIR/pid`), "<nil>")
			grandchild := strings.Fields(shell(t, victim, victimSaid, `cat $TMPDIR/pid`))[0]

			pid, home := victim.cmd.Process.Pid, victim.resources.home
			require.Contains(t, shell(t, spy, said, `cat /proc/self/environ`), "of-the-spy", "its own it can read")
			for _, of := range []string{fmt.Sprint(pid), grandchild} {
				require.Equal(t, "<nil>", shell(t, spy, said, `cd /proc/%s
					for f in environ mem maps auxv stack fd/0; do cat $f >/dev/null 2>&1 && echo reads $f; done
					for f in root/. cwd/.; do ls $f >/dev/null 2>&1 && echo lists $f; done
					for f in root cwd exe fd/0 fd/1; do readlink $f 2>&1 && echo follows $f; done; true`, of))
			}
			require.Contains(t, shell(t, spy, said, `kill -STOP %d`, pid), "not permitted")
			require.Equal(t, "<nil>", shell(t, spy, said, `h=%s; for c in "cat $h/file" "ls $h" "touch $h/mine" "rm -f $h/file" "mv $h/file $HOME" "ln $h/file $HOME/x" "cat $h/tmp/pid" "ls $h/.." "mkdir $h/new"; do
					$c >/dev/null 2>&1 && echo does $c; done; true`, home))
			require.NoFileExists(t, home+"/mine")
			require.FileExists(t, home+"/file")
			for _, folder := range []string{filepath.Dir(home), l.homes.root} {
				require.Contains(t, shell(t, spy, said, `ls %s`, folder), "ermission denied", folder)
			}
			require.Contains(t, shell(t, victim, victimSaid, `cat $HOME/file`), "victim")

			// A program may rely on these properties of its home.
			require.Equal(t, "ok\n<nil>", shell(t, spy, said, `mkdir -p $XDG_CACHE_HOME/a $HOME/b && echo ok > $XDG_CACHE_HOME/a/x && mv $XDG_CACHE_HOME/a/x $HOME/b/y &&
				test "$(pwd)" = "$HOME" && f=$(mktemp) && cp $HOME/b/y $f && cat $f && ls /tmp /etc /usr >/dev/null`))
			require.Contains(t, shell(t, spy, said, `stat -c %%a $HOME`), "700\n")
		})
	}
}

func TestAChildOfRootsHasNoMoreThanRootsFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		require.NotZero(t, os.Geteuid(), "only root has children of root's")
		return
	}
	l, log := launcher(t, nil)
	p, r := start(t, l, scriptedServer(t, ""))
	status := shell(t, p, r, `cat /proc/self/status`)
	for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} {
		require.Contains(t, status, set+":\t"+fmt.Sprintf("%016x", uint64(harmless)), set)
	}
	require.Contains(t, status, "NoNewPrivs:\t1")
	require.Contains(t, log.String(), "children run as root")
}

func TestNothingIsLeftOfAChild(t *testing.T) {
	for name, way := range accountsOfChildren() {
		t.Run(name, func(t *testing.T) {
			command := publicCopy(t)
			l, _ := launcher(t, func(s *config.Stdio) {
				s.AllowedCommands = []string{command}
				way(s)
			})
			server := scriptedServer(t, "")
			server.Command = command
			p, r := start(t, l, server)
			home := p.resources.home
			said := shell(t, p, r, `mkdir -p $HOME/.npm/a/b; touch $HOME/.npm/a/b/c; ln -s /etc $HOME/etc; chmod 500 $HOME/.npm/a/b $HOME/.npm; setsid sleep 600 >/dev/null 2>&1 & echo $!`)
			p.Close()
			_ = r.end(t)
			l.running.Wait()
			require.NoDirExists(t, home)
			require.DirExists(t, "/etc")
			if l.accounts.perChild {
				// It left the process group; under its account nothing may go on.
				var pid int
				_, err := fmt.Sscan(said, &pid)
				require.NoError(t, err)
				require.Eventually(t, func() bool { return !alive(pid) || zombie(pid) }, 10*time.Second, time.Millisecond)
				require.Len(t, l.accounts.free, 4)
			}
			l.Wait()
			require.NoDirExists(t, filepath.Dir(home))
		})
	}
}

func TestEachChildHasAnAccountAsLongAsThereAreAny(t *testing.T) {
	if os.Geteuid() != 0 {
		l, _ := launcher(t, func(s *config.Stdio) { s.UIDs = config.IDRange{First: 70000, Count: 2} })
		_, err := l.Start(scriptedServer(t, ""), Values{}, newReceiver())
		require.ErrorContains(t, err, "CAP_SETUID")
		require.Len(t, l.accounts.free, 2)
		return
	}
	command := publicCopy(t)
	l, _ := launcher(t, func(s *config.Stdio) {
		s.AllowedCommands, s.UIDs = []string{command}, config.IDRange{First: 70000, Count: 2}
	})
	server := scriptedServer(t, "")
	server.Command = command
	first, said := start(t, l, server)
	second, also := start(t, l, server)
	require.Equal(t, "70000 70000 70000\n<nil>", shell(t, first, said, `echo $(id -u) $(id -g) $(id -G)`))
	require.Contains(t, shell(t, second, also, `id -u`), "70001")
	_, err := l.Start(server, valuesOf(server), newReceiver())
	require.ErrorIs(t, err, errAccounts)
	first.Close()
	_ = said.end(t)
	require.Eventually(t, func() bool {
		l.accounts.mu.Lock()
		defer l.accounts.mu.Unlock()
		return len(l.accounts.free) == 1
	}, 20*time.Second, time.Millisecond)
	third, again := start(t, l, server)
	require.Contains(t, shell(t, third, again, `id -u`), "70000")
}

func TestWithoutIsolationThereAreNoChildrenUnlessTheFileSaysSo(t *testing.T) {
	none := errors.New("no Landlock here")
	_, err := isolation(&config.Stdio{Isolation: config.IsolationRequired}, none)
	require.ErrorIs(t, err, none)
	require.ErrorContains(t, err, "uid_range")
	_, err = isolation(&config.Stdio{Isolation: config.IsolationRequired, User: "nobody"}, none)
	require.ErrorIs(t, err, none)
	for _, settings := range []config.Stdio{{Isolation: config.IsolationOff}, {UIDs: config.IDRange{First: 1, Count: 1}}} {
		domain, err := isolation(&settings, none)
		require.NoError(t, err)
		require.False(t, domain)
	}
	domain, err := isolation(&config.Stdio{UIDs: config.IDRange{First: 1, Count: 1}}, nil)
	require.NoError(t, err)
	require.True(t, domain, "both, where there are both")

	l, log := launcher(t, func(s *config.Stdio) { s.Isolation = config.IsolationOff })
	require.False(t, l.domain)
	require.Contains(t, log.String(), "not kept apart")
}

func TestHomesOfAGatewayThatWasKilledAreRemoved(t *testing.T) {
	dir := homeDir(t)
	killed, err := openHomes(dir, hclog.NewNullLogger())
	require.NoError(t, err)
	home, err := killed.make(account{}, nil)
	require.NoError(t, err)
	lives, err := openHomes(dir, hclog.NewNullLogger())
	require.NoError(t, err)
	defer lives.close()
	require.DirExists(t, home, "the lock is held")
	require.NoError(t, killed.lock.Close())
	next, err := openHomes(dir, hclog.NewNullLogger())
	require.NoError(t, err)
	defer next.close()
	require.NoDirExists(t, killed.run)
	require.DirExists(t, lives.run)
}

func TestHomesAreNoOneElsesToChange(t *testing.T) {
	dir := homeDir(t)
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Chmod(dir, 0o777))
	_, err := openHomes(dir, hclog.NewNullLogger())
	require.ErrorContains(t, err, "only this account can change")
	require.ErrorContains(t, err, "home_dir")
	require.NoError(t, os.Chmod(dir, 0o711))
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o777))
	_, err = openHomes(dir, hclog.NewNullLogger())
	require.ErrorContains(t, err, "only this account can change")
}
