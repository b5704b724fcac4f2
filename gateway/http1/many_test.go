package http1

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// batchSize is how many streams Node gets at once.
const batchSize = 256

// TestManyRequestsAreReadAsOthersReadThem is the fuzz target with streams that are made up, in numbers
// that Go's fuzzer does not reach. FUZZ_INPUTS says how many, FUZZ_SEED which ones. A stream that is
// read in two ways is cut down, and becomes a seed of the target.
func TestManyRequestsAreReadAsOthersReadThem(t *testing.T) {
	t.Parallel()
	count, seed := number(t, "FUZZ_INPUTS", 5000), number(t, "FUZZ_SEED", 1)
	var next, accepted, several, compared atomic.Uint64
	var workers sync.WaitGroup
	began := time.Now()
	for range 2 {
		n := startNode(t)
		workers.Go(func() {
			var streams [][]byte
			var requests [][]received
			for last := false; !last && !t.Failed(); {
				i := next.Add(1) - 1
				last = i >= count
				if i > 0 && i%1_000_000 == 0 {
					t.Logf("%d streams, %d requests", i, compared.Load())
				}
				if !last {
					g := newGenerator(seed, i)
					in := g.stream()
					read, err := compareWithNetHTTP(in, max(0, g.IntN(8)-5))
					if err != nil {
						found(t, in, n, err)
						return
					}
					if len(read) > 0 {
						streams, requests = append(streams, in), append(requests, read)
						accepted.Add(1)
						compared.Add(uint64(len(read)))
					}
					if len(read) > 1 {
						several.Add(1)
					}
				}
				if n != nil && (len(streams) == batchSize || last && len(streams) > 0) {
					askNode(t, n, streams, requests)
					streams, requests = streams[:0], requests[:0]
				}
			}
		})
	}
	workers.Wait()
	t.Logf("%d streams of seed %d in %s: %d with requests that are accepted, %d with several of them, %d requests", min(count, next.Load()), seed,
		time.Since(began).Round(time.Second), accepted.Load(), several.Load(), compared.Load())
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, "%s is not a number", name)
	return n
}

func askNode(t *testing.T, n *node, streams [][]byte, requests [][]received) {
	t.Helper()
	batch := make([][][]byte, len(streams))
	for i, in := range streams {
		batch[i] = pieces(in, requests[i])
	}
	readings, err := n.read(batch)
	if err != nil {
		t.Error(err)
		return
	}
	for i, in := range streams {
		if err := compareWithNode(in, requests[i], readings[i]); err != nil {
			found(t, in, n, err)
			return
		}
	}
}

// found cuts a stream down as long as there is a difference, and keeps it.
func found(t *testing.T, in []byte, n *node, err error) {
	t.Helper()
	for size := len(in) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(in); {
			shorter := splice(in, at, at+size, "")
			if other := examine(shorter, 1, n); other != nil {
				in, err = shorter, other
			} else {
				at += size
			}
		}
	}
	text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\nbyte('\\x01')\n", in)
	file := filepath.Join("testdata", "fuzz", "FuzzRequestsAreReadAsOthersReadThem", fmt.Sprintf("%x", sha256.Sum256([]byte(text)))[:16])
	t.Errorf("%v\nin %q, which is kept in %s", err, in, file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}
