package engine

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
)

// target is one path of Vault to put load on.
type target struct {
	caller, name string
	// beside is what it is compared with, by name; empty of that itself.
	beside string
	// requests are sent in turn, as they stand.
	requests [][]byte
}

// figures are what one round has measured.
type figures struct {
	perSecond     float64
	p50, p99      time.Duration
	vault, plugin time.Duration // CPU for one request
}

// run sends the target's requests over so many connections for some time. It
// speaks plain HTTP/1.1 by itself, since every microsecond that the client takes
// is taken from Vault on a small machine.
func (t *target) run(b testing.TB, s *stage, connections int, duration time.Duration) figures {
	b.Helper()
	vault, plugin := measure.CPU(b, s.vault), measure.CPU(b, s.plugin)
	var all sync.WaitGroup
	taken := make([][]time.Duration, connections)
	failures := make([]error, connections)
	started := time.Now()
	for i := range connections {
		all.Go(func() { taken[i], failures[i] = t.send(s.address, i, started.Add(duration)) })
	}
	all.Wait()
	elapsed := time.Since(started)
	for _, err := range failures {
		if err != nil {
			b.Fatalf("%s: %v", t.name, err)
		}
	}
	times := slices.Concat(taken...)
	slices.Sort(times)
	each := func(used time.Duration) time.Duration { return used / time.Duration(len(times)) }
	return figures{
		vault: each(measure.CPU(b, s.vault) - vault), plugin: each(measure.CPU(b, s.plugin) - plugin),
		perSecond: float64(len(times)) / elapsed.Seconds(),
		p50:       times[len(times)/2],
		p99:       times[len(times)*99/100],
	}
}

// send uses one connection until the end, and returns how long each answer took.
func (t *target) send(address string, first int, end time.Time) ([]time.Duration, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	var times []time.Duration
	for i := first; ; i++ {
		started := time.Now()
		if started.After(end) {
			return times, nil
		}
		if _, err := conn.Write(t.requests[i%len(t.requests)]); err != nil {
			return nil, err
		}
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return nil, err
		}
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("status %d: %s", response.StatusCode, body)
		}
		times = append(times, time.Since(started))
	}
}
