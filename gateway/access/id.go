package access

import (
	"crypto/rand"
	"encoding/base32"
	"strconv"
	"strings"
	"sync/atomic"
)

// requestIDs makes ids that no other process makes: a random prefix drawn at
// the start, and a counter. They are names, not secrets.
type requestIDs struct {
	prefix string
	next   atomic.Uint64
}

func newRequestIDs() *requestIDs {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	encoding := base32.StdEncoding.WithPadding(base32.NoPadding)
	return &requestIDs{prefix: strings.ToLower(encoding.EncodeToString(random[:])) + "-"}
}

func (ids *requestIDs) new() string {
	var buf [40]byte
	b := append(buf[:0], ids.prefix...)
	return string(strconv.AppendUint(b, ids.next.Add(1), 36))
}
