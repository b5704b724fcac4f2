package config

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// AuditStdout as an audit file's name writes to standard output.
const AuditStdout = "stdout"

// Audit says where the audit log goes.
type Audit struct {
	// File, file: SIGHUP makes the gateway open it again, so that it can be
	// rotated. Default: "stdout".
	File string
	// Syslog is nil unless there is a block syslog { }: a second place for each line.
	Syslog *Syslog
}

// Values of socket_type: Go's names of the networks, as for Vault's audit devices, and TLS.
const (
	SocketTCP          = "tcp"
	SocketTLS          = "tls"
	SocketUnix         = "unix"     // a stream
	SocketUnixDatagram = "unixgram" // as /dev/log mostly is
)

// Syslog is a syslog server that gets each audit line.
type Syslog struct {
	// Address, address, required: host:port, or the absolute path of a unix socket.
	Address string
	// SocketType, socket_type, is one of the Socket constants. Default: tcp.
	SocketType string
	// Facility, facility, is one of the names in [Facilities]. Default: AUTH.
	Facility string
	// Tag, tag, is the APP-NAME of the messages. Default: mcp-gateway.
	Tag string
	// Required, required: no request passes whose decision the server has not taken.
	// Default: true.
	Required bool
	// MaxQueue, max_queue, bounds the lines that wait for the server, in bytes.
	// Default: 8MiB.
	MaxQueue int64
	// CACertFile, ca_cert_file, PEM: the authorities to trust instead of the system's.
	CACertFile string
	// ClientCertFile and ClientKeyFile, client_cert_file and client_key_file, PEM.
	ClientCertFile string
	ClientKeyFile  string
	// TLSServerName, tls_server_name, is the name in the server's certificate. Default: the
	// address's.
	TLSServerName string
}

// Facilities are the names of syslog's facilities, each at the place of its number
// (RFC 5424 section 6.2.1). These are the names that Vault's audit device knows; "" stands
// for the facilities that have no name there.
var Facilities = []string{
	"KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON", "AUTHPRIV", "FTP",
	"", "", "", "",
	"LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7",
}

func (*decoder) audit(s *section) Audit {
	a := Audit{File: s.str("file", AuditStdout), Syslog: auditSyslog(s.block("syslog"))}
	if a.File != AuditStdout {
		if !filepath.IsAbs(a.File) {
			s.bad("file", "%q is not an absolute path: the audit log must not depend on where the gateway was started; or write %q", a.File, AuditStdout)
		} else if info, err := os.Stat(filepath.Dir(a.File)); err != nil || !info.IsDir() {
			s.bad("file", "the folder %s is not there: create it, writable for the gateway", filepath.Dir(a.File))
		}
	}
	s.end()
	return a
}

// auditSyslog reads the block; nil if there is none.
func auditSyslog(s *section) *Syslog {
	if s == nil {
		return nil
	}
	c := &Syslog{
		Address:       s.str("address", ""),
		SocketType:    s.choice("socket_type", SocketTCP, SocketTCP, SocketTLS, SocketUnix, SocketUnixDatagram),
		Facility:      strings.ToUpper(s.str("facility", "AUTH")),
		Tag:           s.str("tag", "mcp-gateway"),
		Required:      s.booleanOr("required", true),
		MaxQueue:      s.size("max_queue", 8<<20, 64<<10, 1<<30),
		CACertFile:    s.authorities("ca_cert_file"),
		TLSServerName: s.str("tls_server_name", ""),
	}
	c.ClientCertFile, c.ClientKeyFile = s.keyPair("client_cert_file", "client_key_file")
	s.required("address", c.Address)
	if c.Address != "" {
		if err := checkSyslogAddress(c.SocketType, c.Address); err != nil {
			s.bad("address", "%v", err)
		}
	}
	if c.Facility == "" || !slices.Contains(Facilities, c.Facility) {
		s.bad("facility", "%q is not a facility of syslog: write for example \"AUTH\", \"AUTHPRIV\", \"DAEMON\" or \"LOCAL0\"", c.Facility)
	}
	if !isSyslogName(c.Tag, 48) {
		s.bad("tag", "%q is not a valid APP-NAME: 1 to 48 visible ASCII characters (RFC 5424 section 6.2.5)", c.Tag)
	}
	for _, name := range []string{"ca_cert_file", "client_cert_file", "tls_server_name"} {
		if s.has(name) && c.SocketType != SocketTLS {
			s.bad(name, "it is for socket_type = %q alone, and this is %q", SocketTLS, c.SocketType)
		}
	}
	s.end()
	return c
}

// isSyslogName reports whether the text may be in the header of a message: PRINTUSASCII
// of RFC 5424.
func isSyslogName(text string, most int) bool {
	return text != "" && len(text) <= most && !strings.ContainsFunc(text, func(c rune) bool { return c < 33 || c > 126 })
}

func checkSyslogAddress(socketType, address string) error {
	switch socketType {
	case SocketUnix, SocketUnixDatagram:
		if !filepath.IsAbs(address) {
			return fmt.Errorf("%q is not the absolute path of a socket: write for example \"/dev/log\"", address)
		}
	case SocketTCP, SocketTLS:
		host, port, err := net.SplitHostPort(address)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil || host == "" {
			return fmt.Errorf("%q is not a server's address: write it as \"syslog.example.com:6514\"", address)
		}
	}
	return nil
}

// inClear reports whether lines go to other machines without TLS.
func (c *Syslog) inClear() bool {
	host, _, err := net.SplitHostPort(c.Address)
	return c.SocketType == SocketTCP && err == nil && !onLoopback(host)
}
