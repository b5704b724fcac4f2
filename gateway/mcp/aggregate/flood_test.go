package aggregate

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestACursorThatWasMadeByHandHasNoServerAskedTwice(t *testing.T) {
	up := modern(t, "x", textResult)
	s := newStage(t, map[string]string{"up": up.URL})
	raw := []byte("\x01\x01\x00\xff\x01") // of tools, with 255 positions
	for i := range 255 {
		raw = binary.AppendUvarint(append(raw, "\x02up\x00"...), uint64(i+1))
	}
	cursor := base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(raw, crc32.ChecksumIEEE(raw)))
	g := s.asks("1", "tools/list", `"cursor":"`+cursor+`"`)
	require.Contains(t, g.body, `"error":{"code":-32602`)
	require.LessOrEqual(t, len(up.sent("tools/list")), 1)
}

func TestAClientThatGivesUpItsListsHasNotMoreAndMoreOnTheirWay(t *testing.T) {
	up := newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
		if method == "server/discover" {
			reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
			return
		}
		<-r.Context().Done()
	})
	s := newStage(t, map[string]string{"up": up.URL})
	s.handler.budget = time.Minute
	body, pairs := stateless("1", "tools/list", "")
	for i := range 3 * maxStrays {
		asked := min(i, maxStrays) + 1
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if r, err := s.doContext(ctx, body, pairs...); err == nil {
				_ = r.Body.Close()
			}
		}()
		if asked <= maxStrays {
			eventually(t, "the server to be asked", func() bool { return len(up.sent("tools/list")) == asked })
			cancel()
			eventually(t, "the list to be given up", func() bool {
				known := s.handler.servers.of("registration-up")
				return known.strays("id-alice") == asked
			})
		}
		<-ended
		cancel()
	}
	require.Len(t, up.sent("tools/list"), maxStrays)
	s.vault.Revoke(alice)
	eventually(t, "a revocation to end what nobody waits for too", func() bool {
		return s.handler.servers.of("registration-up").strays("id-alice") == 0
	})
}

func TestAListOfNothingButRubbishIsSaidOnce(t *testing.T) {
	names := 0
	up := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		if method == "server/discover" {
			reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
			return
		}
		names++
		reply(w, body, fmt.Sprintf(`{"tools":[{"name":"a"},%s{"name":"no good %d"}]}`, strings.Repeat("{},", 50_000), names))
	})
	s := newStage(t, map[string]string{"up": up.URL})
	for range 3 {
		require.Equal(t, []string{"up__a"}, toolsIn(t, s.asks("1", "tools/list", "").body))
	}
	require.Less(t, strings.Count(s.log.text(), "left out"), 50)
	require.Contains(t, s.log.text(), "left_out=50001")
}

// doContext is do, until the context ends.
func (s *stage) doContext(ctx context.Context, body string, pairs ...string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+alice)
	for i := 0; i < len(pairs); i += 2 {
		r.Header.Set(pairs[i], pairs[i+1])
	}
	return http.DefaultTransport.RoundTrip(r)
}
