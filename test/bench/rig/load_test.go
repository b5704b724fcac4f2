package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"vault-plugin-secrets-mcp/test/bench/rig/job"
)

func TestEachConnectionSendsItsOwnRequestAlone(t *testing.T) {
	if paths := sentBy(t, &job.Load{Connections: 3, Own: true}); !slices.Equal(paths, []string{"/0", "/1", "/2"}) {
		t.Errorf("the connections sent %q", paths)
	}
}

func TestEachConnectionSendsAllRequestsInTurn(t *testing.T) {
	if paths := sentBy(t, &job.Load{Connections: 1}); !slices.Equal(paths, []string{"/0/1/2/3"}) {
		t.Errorf("the connection sent %q", paths)
	}
}

const requests = 4

// sentBy is the paths that each connection has asked for, the first time of each.
func sentBy(t *testing.T, j *job.Load) []string {
	t.Helper()
	var mu sync.Mutex
	sent := map[net.Conn][]string{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for reader := bufio.NewReader(conn); ; {
					r, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					mu.Lock()
					if !slices.Contains(sent[conn], r.URL.Path) {
						sent[conn] = append(sent[conn], r.URL.Path)
					}
					mu.Unlock()
					if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
						return
					}
				}
			}()
		}
	}()

	j.Address, j.Status = listener.Addr().String(), http.StatusOK
	for i := range requests {
		j.Requests = append(j.Requests, fmt.Appendf(nil, "GET /%d HTTP/1.1\r\nHost: bench\r\n\r\n", i))
	}
	for i := range j.Connections {
		w, err := newWorker(j, i) // which sends one
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.conn.Close() })
		for range requests {
			if err := w.exchange(); err != nil {
				t.Fatal(err)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	var all []string
	for _, paths := range sent {
		all = append(all, strings.Join(paths, ""))
	}
	slices.Sort(all)
	return all
}
