package measure

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/test/bench/rig/job"
	"vault-plugin-secrets-mcp/test/harness"
)

// Rig is the program bench-rig, and its processes for one benchmark.
type Rig struct {
	// Path is the path of the program.
	Path string

	t   testing.TB
	dir string
}

// NewRig builds the program into a folder.
func NewRig(t testing.TB, dir string) *Rig {
	t.Helper()
	r := &Rig{t: t, dir: dir, Path: filepath.Join(dir, "bench-rig")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", r.Path, "vault-plugin-secrets-mcp/test/bench/rig")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return r
}

// Server is a process of the rig that listens.
type Server struct {
	Address string // host:port
	Pid     int

	t       testing.TB
	spec    process.Spec
	process *process.Process
}

// Kill ends the process.
func (s *Server) Kill() { s.process.Kill() }

// Start starts a killed process again, at the same address.
func (s *Server) Start() error {
	p, err := process.Start(s.spec)
	if err != nil {
		return err
	}
	s.t.Cleanup(p.Kill)
	s.process, s.Pid = p, p.Pid()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return p.Await(ctx, 10*time.Second, func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// Upstream starts the MCP server that answers at once.
func (r *Rig) Upstream() Server { return r.serve("upstream", "upstream") }

// Proxy starts the reverse proxy to compare with, in front of an upstream.
func (r *Rig) Proxy(upstream Server) Server {
	return r.serve("proxy", "proxy", "http://"+upstream.Address)
}

// SecureUpstream is Upstream with TLS.
func (r *Rig) SecureUpstream(secure Secure) Server {
	return r.serve("upstream-tls", "upstream", secure.Files)
}

// SecureProxy is Proxy with TLS on both sides.
func (r *Rig) SecureProxy(upstream Server, secure Secure) Server {
	return r.serve("proxy-tls", "proxy", "https://"+upstream.Address, secure.Files)
}

// Secure are the files for TLS between processes on the loopback.
type Secure struct {
	Files string // the beginning of their names
}

// CA is the file with the authority.
func (s Secure) CA() string { return s.Files + "-ca.pem" }

// Cert is the file with a certificate for any server on the loopback.
func (s Secure) Cert() string { return s.Files + "-cert.pem" }

// Key is the file with its key.
func (s Secure) Key() string { return s.Files + "-key.pem" }

// Secure makes the files.
func (r *Rig) Secure() Secure {
	r.t.Helper()
	s := Secure{Files: filepath.Join(r.dir, "tls")}
	authority := harness.NewAuthority(r.t)
	certificate, key := authority.Issue(r.t)
	for path, content := range map[string][]byte{s.CA(): authority.PEM, s.Cert(): certificate, s.Key(): key} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	return s
}

// serve starts a process of a kind; name tells it from others of that kind.
func (r *Rig) serve(name, kind string, args ...string) Server {
	r.t.Helper()
	address := harness.FreeAddress(r.t)
	s := Server{Address: address, t: r.t, spec: process.Spec{
		Name: "bench-rig " + name, Path: r.Path, Args: append([]string{kind, address}, args...),
		Log: filepath.Join(r.dir, "rig-"+name+".log"),
	}}
	if err := s.Start(); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// Load is the process with the clients. It runs one job at a time.
type Load struct {
	Pid int

	t   testing.TB
	in  *json.Encoder
	out *json.Decoder
}

// Load starts it.
func (r *Rig) Load() *Load {
	r.t.Helper()
	pid, in, out := r.pipe("load")
	return &Load{Pid: pid, t: r.t, in: json.NewEncoder(in), out: json.NewDecoder(out)}
}

// pipe starts a process that takes jobs until its standard input ends.
func (r *Rig) pipe(kind string) (int, io.Writer, io.Reader) {
	r.t.Helper()
	cmd := exec.Command(r.Path, kind)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid, in, out
}

// Run runs a job to its end. A wrong answer fails the benchmark.
func (l *Load) Run(name string, j *job.Load) job.Loaded {
	l.t.Helper()
	var result job.Loaded
	if err := l.in.Encode(j); err != nil {
		l.t.Fatal(err)
	}
	if err := l.out.Decode(&result); err != nil {
		l.t.Fatal(err)
	}
	if result.Error != "" {
		l.t.Fatalf("%s, %d connections: %s", name, j.Connections, strings.TrimSpace(result.Error))
	}
	return result
}
