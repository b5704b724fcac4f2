package kms

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// maxBody bounds a request, in bytes; the real limits of its parts are lower.
const maxBody = 1 << 20

// Options are the options of Start. The zero value of each means a default.
type Options struct {
	Address    string     // to listen on, of the loopback. Default: 127.0.0.1:0
	Region     string     // default: us-east-1
	Account    string     // default: 111122223333
	Identities []Identity // may sign requests. Default: one that may do everything
	Now        func() time.Time
	Random     io.Reader
}

// Identity signs requests.
type Identity struct {
	Name            string // of the IAM user
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string  // of temporary credentials; otherwise empty
	Policy          *Policy // nil: everything is allowed
}

// Server is the double.
type Server struct {
	opts     Options
	listener net.Listener
	http     http.Server

	mu      sync.Mutex
	keys    map[string]*masterKey // by id
	aliases map[string]string     // alias/… to id
	faults  []*Fault
	calls   map[string]int
}

// Start listens and serves until Close.
func Start(opts Options) (*Server, error) {
	if opts.Address == "" {
		opts.Address = "127.0.0.1:0"
	}
	if opts.Region == "" {
		opts.Region = "us-east-1"
	}
	if opts.Account == "" {
		opts.Account = "111122223333"
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Random == nil {
		opts.Random = rand.Reader
	}
	if opts.Identities == nil {
		opts.Identities = []Identity{NewIdentity("test")}
	}
	if err := checkLoopback(opts.Address); err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", opts.Address)
	if err != nil {
		return nil, err
	}
	opts.Identities = slices.Clone(opts.Identities)
	s := &Server{
		opts: opts, listener: listener,
		keys: map[string]*masterKey{}, aliases: map[string]string{}, calls: map[string]int{},
	}
	s.http = http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.http.Serve(listener) }() // ends with Close
	return s, nil
}

// NewIdentity makes an identity that may do everything, with a random secret.
func NewIdentity(name string) Identity {
	return Identity{Name: name, AccessKeyID: "AKIA" + rand.Text()[:16], SecretAccessKey: rand.Text() + rand.Text()[:14]}
}

// checkLoopback refuses other addresses: the double has secrets, and an endpoint that
// makes it fail without any.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return errors.New("the KMS double listens on the loopback only, and " + host + " is not on it")
	}
	return nil
}

// URL is the endpoint for clients.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Region is the region of requests' signatures.
func (s *Server) Region() string { return s.opts.Region }

// Identity returns the first identity.
func (s *Server) Identity() Identity { return s.opts.Identities[0] }

// SetPolicy gives the identity of that name another policy; nil allows everything.
func (s *Server) SetPolicy(name string, p *Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.opts.Identities {
		if s.opts.Identities[i].Name == name {
			s.opts.Identities[i].Policy = p
		}
	}
}

// Close ends the server and every connection to it.
func (s *Server) Close() error { return s.http.Close() }

// Calls returns the number of requests for the operation, whatever the answer; "" counts
// all operations.
func (s *Server) Calls(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if operation != "" {
		return s.calls[operation]
	}
	total := 0
	for _, n := range s.calls {
		total += n
	}
	return total
}

// ResetCalls starts counting from zero.
func (s *Server) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.calls)
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, adminPrefix) {
		s.serveAdmin(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.refuse(w, failf("RequestEntityTooLargeException", "the request is too large or ended early"))
		return
	}
	answer, failure := s.serve(r, body)
	if failure == errHangUp {
		hangUp(w)
		return
	}
	if failure != nil {
		s.refuse(w, failure)
		return
	}
	s.answer(w, http.StatusOK, answer)
}

// serve checks a request in AWS's order: identity, operation, form, permission, and the
// key's state.
func (s *Server) serve(r *http.Request, body []byte) (any, *Failure) {
	name, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	s.count(name)
	identity, failure := s.authenticate(r, body)
	if failure != nil {
		return nil, failure
	}
	operation := operations[name]
	if !ok || operation == nil || r.Method != http.MethodPost || r.URL.Path != "/" {
		return nil, failf("UnknownOperationException", "")
	}
	call := &call{server: s, identity: identity, operation: name}
	if err := json.Unmarshal(body, &call.in); err != nil {
		return nil, failf("SerializationException", "the request is not JSON of the expected form")
	}
	if failure := s.fault(r.Context(), call); failure != nil {
		return nil, failure
	}
	return operation(call)
}

func (s *Server) count(operation string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[operation]++
}

func (s *Server) refuse(w http.ResponseWriter, f *Failure) {
	s.answer(w, f.Status, map[string]string{"__type": f.Code, "message": f.Message})
}

func (s *Server) answer(w http.ResponseWriter, status int, body any) {
	header := w.Header()
	header.Set("Content-Type", "application/x-amz-json-1.1")
	header.Set("X-Amzn-Requestid", uuid.NewString())
	header.Set("Date", s.opts.Now().UTC().Format(http.TimeFormat))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller may have gone
}
