package gatewaytest

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"

	parser "github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"
)

// Syslog is a syslog server that reads strictly, with a parser that others wrote, and can
// stop reading.
type Syslog struct {
	Network, Address string

	tls      *tls.Config
	listener net.Listener
	packets  net.PacketConn
	reading  sync.WaitGroup

	mu       sync.Mutex
	open     *sync.Cond // of paused
	paused   bool
	conns    []net.Conn
	messages []SyslogMessage
	faults   []error
}

// SyslogMessage is one that has come.
type SyslogMessage struct {
	Facility, Severity    int
	Time, App, Proc, Type string
	Sequence              int
	Text                  string
}

// NewSyslog starts a server that ends with the test. The network is tcp, unix or unixgram;
// with settings for TLS it is tcp.
func NewSyslog(t testing.TB, network, address string, settings *tls.Config) *Syslog {
	t.Helper()
	s := &Syslog{Network: network, Address: address, tls: settings}
	s.open = sync.NewCond(&s.mu)
	t.Cleanup(s.Stop)
	s.Start(t)
	return s
}

// Start listens, for the first time or again at the same address.
func (s *Syslog) Start(t testing.TB) {
	t.Helper()
	var network net.ListenConfig
	var err error
	if s.Network == "unixgram" {
		_ = os.Remove(s.Address)
		if s.packets, err = network.ListenPacket(context.Background(), s.Network, s.Address); err != nil {
			t.Fatal(err)
		}
		s.reading.Go(func() { s.readPackets(s.packets) })
		return
	}
	if s.listener, err = network.Listen(context.Background(), s.Network, s.Address); err != nil {
		t.Fatal(err)
	}
	s.Address = s.listener.Addr().String()
	if s.tls != nil {
		s.listener = tls.NewListener(s.listener, s.tls)
	}
	listener := s.listener
	s.reading.Go(func() { s.accept(listener) })
}

// Stop ends it, with all its connections.
func (s *Syslog) Stop() {
	s.Pause(false)
	if s.listener != nil {
		_ = s.listener.Close()
	}
	if s.packets != nil {
		_ = s.packets.Close()
	}
	s.Cut()
	s.reading.Wait()
}

// Cut ends its connections.
func (s *Syslog) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.conns = nil
}

// Say sends something on each connection, which no syslog server does.
func (s *Syslog) Say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		_, _ = io.WriteString(conn, text)
	}
}

// Pause has it read no more, or read again.
func (s *Syslog) Pause(paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = paused
	s.open.Broadcast()
}

// Messages are those that have come.
func (s *Syslog) Messages() []SyslogMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// Faults are the violations of the RFCs.
func (s *Syslog) Faults() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

func (s *Syslog) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		boundBuffer(conn)
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
		s.reading.Go(func() {
			defer func() { _ = conn.Close() }()
			if s.Network == "unix" {
				s.readLines(conn)
				return
			}
			octetcounting.NewParser(parser.WithListener(s.take), parser.WithMaxMessageLength(1<<20)).Parse(s.gated(conn))
		})
	}
}

// boundBuffer keeps the system's buffer small, so that tests need not send much until a server
// that does not read blocks.
func boundBuffer(conn net.Conn) {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	if c, ok := conn.(interface{ SetReadBuffer(bytes int) error }); ok {
		_ = c.SetReadBuffer(128 << 10)
	}
}

// gated is a reader that waits while the server is paused.
func (s *Syslog) gated(r io.Reader) io.Reader { return &gatedReader{s, r} }

type gatedReader struct {
	server *Syslog
	io.Reader
}

func (g *gatedReader) Read(p []byte) (int, error) {
	g.server.wait()
	return g.Reader.Read(p)
}

func (s *Syslog) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.paused {
		s.open.Wait()
	}
}

func (s *Syslog) readLines(conn net.Conn) {
	reader := bufio.NewReader(s.gated(conn))
	for {
		line, err := reader.ReadBytes('\n')
		if err != nil {
			if len(line) > 0 {
				s.fault(fmt.Errorf("a message has no end: %q", line))
			}
			return
		}
		s.take(parsed(line[:len(line)-1]))
	}
}

func (s *Syslog) readPackets(conn net.PacketConn) {
	packet := make([]byte, 1<<20)
	for {
		s.wait()
		n, _, err := conn.ReadFrom(packet)
		if err != nil {
			return
		}
		s.take(parsed(packet[:n]))
	}
}

func parsed(message []byte) *parser.Result {
	m, err := rfc5424.NewMachine().Parse(message)
	return &parser.Result{Message: m, Error: err}
}

func (s *Syslog) take(r *parser.Result) {
	m, ok := r.Message.(*rfc5424.SyslogMessage)
	if r.Error != nil || !ok {
		s.fault(fmt.Errorf("not a message: %w", r.Error))
		return
	}
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	got := SyslogMessage{
		Facility: int(*m.Facility), Severity: int(*m.Severity), App: text(m.Appname), Proc: text(m.ProcID), Type: text(m.MsgID), Text: text(m.Message),
	}
	if m.Timestamp != nil {
		got.Time = m.Timestamp.UTC().Format("2006-01-02T15:04:05.000000Z")
	}
	if m.StructuredData != nil {
		got.Sequence, _ = strconv.Atoi((*m.StructuredData)["meta"]["sequenceId"])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, got)
}

func (s *Syslog) fault(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, err)
}
