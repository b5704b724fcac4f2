package syslog

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/test/harness/authority"
)

// stage is a server, and a client of it that does not wait for long.
type stage struct {
	*Client
	server   *gatewaytest.Syslog
	settings *config.Syslog
	log      *gatewaytest.Log
	sent     int
}

// newServer starts a server, and returns settings with which it is reached.
func newServer(t *testing.T, socketType string) (*gatewaytest.Syslog, *config.Syslog) {
	t.Helper()
	settings := &config.Syslog{SocketType: socketType, Facility: "AUTH", Tag: "mcp-gateway"}
	network, address := socketType, "127.0.0.1:0"
	var secured *tls.Config
	switch socketType {
	case config.SocketTLS:
		ca := authority.New(t)
		network, secured = "tcp", &tls.Config{Certificates: []tls.Certificate{ca.Pair(t, "127.0.0.1")}, MinVersion: tls.VersionTLS12}
		settings.CACertFile = filepath.Join(t.TempDir(), "ca.pem")
		require.NoError(t, os.WriteFile(settings.CACertFile, ca.PEM, 0o600))
	case config.SocketUnix, config.SocketUnixDatagram:
		address = filepath.Join(t.TempDir(), "log")
	}
	server := gatewaytest.NewSyslog(t, network, address, secured)
	settings.Address = server.Address
	return server, settings
}

// open starts a client.
func open(t *testing.T, server *gatewaytest.Syslog, settings *config.Syslog) *stage {
	t.Helper()
	s := &stage{server: server, settings: settings, log: &gatewaytest.Log{}}
	var err error
	s.Client, err = newClient(settings, hclog.New(&hclog.LoggerOptions{Output: s.log}))
	require.NoError(t, err)
	s.wait = backoff.Backoff{Min: time.Millisecond, Max: 10 * time.Millisecond}
	go s.run()
	t.Cleanup(s.Close)
	return s
}

// send sends more messages, and returns when they are sent.
func (s *stage) send(t testing.TB, count, size int) {
	t.Helper()
	s.add(count, size)
	lost, err := s.Flush()
	require.NoError(t, err)
	require.Zero(t, lost)
}

func (s *stage) add(count, size int) {
	for range count {
		text := fmt.Sprintf(`{"n":%d,"x":%q}`, s.sent, strings.Repeat("x", size))
		s.Add(&Message{Severity: Info, Time: []byte("2026-11-30T09:15:02.123456Z"), ID: []byte("decision"), Text: []byte(text), Sequence: uint64(s.sent)})
		s.sent++
	}
}

// arrives waits until all messages that were sent have come, in order. Some may have come
// twice, where a connection has ended in the middle of one.
func (s *stage) arrives(t testing.TB, twice bool) {
	t.Helper()
	gatewaytest.Eventually(t, "all messages come", func() bool {
		next := 1
		for _, m := range s.server.Messages() {
			switch {
			case m.Sequence == next:
				next++
			case !twice || m.Sequence > next:
				t.Fatalf("message %d comes after %d", m.Sequence, next-1)
			}
		}
		return next == s.sent+1
	})
}

var everySocket = []string{config.SocketTCP, config.SocketTLS, config.SocketUnix, config.SocketUnixDatagram}

func onEverySocket(t *testing.T, test func(t *testing.T, server *gatewaytest.Syslog, settings *config.Syslog)) {
	t.Helper()
	for _, socketType := range everySocket {
		t.Run(socketType, func(t *testing.T) {
			t.Parallel()
			server, settings := newServer(t, socketType)
			test(t, server, settings)
		})
	}
}

func TestMessagesComeWholeAndInOrder(t *testing.T) {
	onEverySocket(t, func(t *testing.T, server *gatewaytest.Syslog, settings *config.Syslog) {
		t.Helper()
		s := open(t, server, settings)
		for range 10 {
			s.send(t, 50, 200)
		}
		s.send(t, 1, 40_000)
		s.arrives(t, false)
		require.Empty(t, server.Faults())
		require.True(t, s.Up())
		first := server.Messages()[0]
		require.Equal(t, 4, first.Facility)
		require.Equal(t, Info, first.Severity)
		require.Equal(t, "mcp-gateway", first.App)
		require.Equal(t, "decision", first.Type)
		require.Equal(t, "2026-11-30T09:15:02.123456Z", first.Time)
		require.JSONEq(t, `{"n":0,"x":"`+strings.Repeat("x", 200)+`"}`, first.Text)
	})
}

func TestMessagesWaitForAServerThatIsAwayAtTheStart(t *testing.T) {
	onEverySocket(t, func(t *testing.T, server *gatewaytest.Syslog, settings *config.Syslog) {
		t.Helper()
		server.Stop()
		s := open(t, server, settings)
		sent := make(chan struct{})
		s.add(10, 100)
		go func() {
			defer close(sent)
			if lost, err := s.Flush(); lost > 0 || err != nil {
				t.Error(lost, err)
			}
		}()
		gatewaytest.Eventually(t, "the log tells", func() bool { return strings.Contains(s.log.String(), "no connection to the syslog server") })
		require.False(t, s.Up())
		server.Start(t)
		gatewaytest.Within(t, "the messages are sent", sent)
		s.arrives(t, false)
	})
}

func TestNothingIsSentOnAConnectionThatTheServerHasClosed(t *testing.T) {
	for _, socketType := range []string{config.SocketTCP, config.SocketTLS, config.SocketUnix} {
		t.Run(socketType, func(t *testing.T) {
			server, settings := newServer(t, socketType)
			s := open(t, server, settings)
			for range 5 {
				s.send(t, 3, 100)
				s.arrives(t, false)
				before := strings.Count(s.log.String(), "connected to")
				server.Cut()
				// Nothing has to be sent for that to be noticed.
				gatewaytest.Eventually(t, "another connection", func() bool { return strings.Count(s.log.String(), "connected to") > before })
			}
			s.send(t, 3, 100)
			s.arrives(t, false)
			require.Empty(t, server.Faults())
		})
	}
}

func TestAServerThatIsStartedAgainGetsTheRest(t *testing.T) {
	onEverySocket(t, func(t *testing.T, server *gatewaytest.Syslog, settings *config.Syslog) {
		t.Helper()
		s := open(t, server, settings)
		s.send(t, 10, 100)
		s.arrives(t, false)
		server.Stop()
		if settings.SocketType != config.SocketUnixDatagram { // which shows no end
			gatewaytest.Eventually(t, "the end is seen", func() bool { return !s.Up() })
		}
		server.Start(t)
		s.send(t, 10, 100)
		s.arrives(t, false)
	})
}

func TestAServerThatDoesNotReadIsWaitedFor(t *testing.T) {
	onEverySocket(t, func(t *testing.T, server *gatewaytest.Syslog, settings *config.Syslog) {
		t.Helper()
		s := open(t, server, settings)
		s.send(t, 1, 100)
		s.arrives(t, false)
		server.Pause(true)
		sent := make(chan struct{})
		s.add(60, 60_000) // more than these sockets hold
		go func() {
			defer close(sent)
			if lost, err := s.Flush(); lost > 0 || err != nil {
				t.Error(lost, err)
			}
		}()
		select {
		case <-sent:
			t.Fatal("all is sent, and nobody reads")
		case <-time.After(200 * time.Millisecond):
		}
		server.Pause(false)
		gatewaytest.Within(t, "the rest is sent", sent)
		s.arrives(t, false)
		require.Empty(t, server.Faults())
	})
}

func TestAServerThatTakesNothingForLongGetsAnotherConnection(t *testing.T) {
	onEverySocket(t, func(t *testing.T, server *gatewaytest.Syslog, settings *config.Syslog) {
		t.Helper()
		s := &stage{server: server, settings: settings, log: &gatewaytest.Log{}}
		var err error
		s.Client, err = newClient(settings, hclog.New(&hclog.LoggerOptions{Output: s.log}))
		require.NoError(t, err)
		s.wait, s.dialer.patience = backoff.Backoff{Min: time.Millisecond, Max: 10 * time.Millisecond}, 50*time.Millisecond
		go s.run()
		t.Cleanup(s.Close)
		s.send(t, 1, 100)
		s.arrives(t, false)
		server.Pause(true)
		sent := make(chan struct{})
		s.add(60, 60_000)
		go func() {
			defer close(sent)
			if lost, err := s.Flush(); lost > 0 || err != nil {
				t.Error(lost, err)
			}
		}()
		gatewaytest.Eventually(t, "it is given up", func() bool { return strings.Contains(s.log.String(), errStuck.Error()) })
		server.Pause(false)
		gatewaytest.Within(t, "the rest is sent", sent)
		gatewaytest.Eventually(t, "every message comes", func() bool {
			seen := map[int]bool{}
			for _, m := range server.Messages() {
				seen[m.Sequence] = true
			}
			return len(seen) == s.sent
		})
	})
}

func TestWhatAServerSaysIsDropped(t *testing.T) {
	for _, socketType := range []string{config.SocketTCP, config.SocketTLS, config.SocketUnix} {
		t.Run(socketType, func(t *testing.T) {
			server, settings := newServer(t, socketType)
			s := open(t, server, settings)
			s.send(t, 1, 100)
			s.arrives(t, false)
			server.Say(strings.Repeat("hunter2 \x00\xff<0>1\n", 10_000))
			s.send(t, 100, 100)
			s.arrives(t, false)
			require.Empty(t, server.Faults())
			require.NotContains(t, s.log.String(), "hunter2")
			require.Equal(t, 1, strings.Count(s.log.String(), "connected to"), "the connection goes on")
		})
	}
}

func TestAMessageThatNoDatagramTakesDoesNotStopTheNext(t *testing.T) {
	server, settings := newServer(t, config.SocketUnixDatagram)
	s := open(t, server, settings)
	s.add(2, 100)
	s.add(1, 8<<20)
	s.add(2, 100)
	lost, err := s.Flush()
	require.ErrorIs(t, err, ErrTooLong)
	require.Equal(t, 1, lost)
	gatewaytest.Eventually(t, "the others come", func() bool { return len(server.Messages()) == 4 })
	require.Equal(t, 4, server.Messages()[2].Sequence, "and the gap shows")
	s.send(t, 1, 100)
}

func TestASocketOfTheOtherKindIsTold(t *testing.T) {
	server, settings := newServer(t, config.SocketUnixDatagram)
	settings.SocketType = config.SocketUnix
	s := open(t, server, settings)
	gatewaytest.Eventually(t, "the log tells", func() bool {
		return strings.Contains(s.log.String(), `use the other socket_type, \"unix\" or \"unixgram\"`) || strings.Contains(s.log.String(), `use the other socket_type, "unix" or "unixgram"`)
	})
}

func TestTheEndOfAClientEndsWhatWaits(t *testing.T) {
	server, settings := newServer(t, config.SocketTCP)
	server.Stop()
	s := open(t, server, settings)
	s.add(3, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if lost, err := s.Flush(); lost != 3 || err == nil {
			t.Error(lost, err)
		}
	}()
	s.Close()
	gatewaytest.Within(t, "the wait ends", ended)
	s.Close() // once more is no harm
}

func TestReconnectDoesNotWaitForTheNextAttempt(t *testing.T) {
	server, settings := newServer(t, config.SocketTCP)
	server.Stop()
	s := &stage{server: server, settings: settings, log: &gatewaytest.Log{}}
	var err error
	s.Client, err = newClient(settings, hclog.New(&hclog.LoggerOptions{Output: s.log}))
	require.NoError(t, err)
	s.wait = backoff.Backoff{Min: time.Hour, Max: time.Hour}
	go s.run()
	t.Cleanup(s.Close)
	gatewaytest.Eventually(t, "it waits", func() bool { return strings.Contains(s.log.String(), "no connection") })
	server.Start(t)
	s.Reconnect()
	s.send(t, 1, 100)
	s.arrives(t, false)
	s.Reconnect()
	gatewaytest.Eventually(t, "another connection", func() bool { return strings.Count(s.log.String(), "connected to") == 2 })
	s.send(t, 1, 100)
	s.arrives(t, false)
}
