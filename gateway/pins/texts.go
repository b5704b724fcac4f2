package pins

import (
	"bytes"
	"hash/maphash"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"vault-plugin-secrets-mcp/backend/pin"
)

const (
	// formsKept bounds the texts that are kept of one digest. A server writes its members in
	// one order, or in any.
	formsKept = 4

	// textsKept bounds the texts that are kept of one server, in bytes. Those beyond are read
	// again each time.
	textsKept = 8 << 20

	// othersKept bounds the texts of one server that are remembered as not approved, by their
	// hashes: about 2 MB.
	othersKept = 8192
)

// texts are definitions of a server, as it has written them, whose digests are known. The
// approvals among them change; a text's digest does not.
type texts struct {
	seeds [2]maphash.Seed
	known sync.Map // knownKey -> *text

	mu    sync.Mutex // of those who add and drop
	size  int        // bytes
	forms map[form]int
}

type knownKey struct {
	kind pin.Kind
	hash uint64
}

type form struct {
	kind   pin.Kind
	digest pin.Digest
}

type text struct {
	name   string
	digest pin.Digest
	raw    []byte
}

func newTexts() *texts {
	return &texts{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, forms: map[form]int{}}
}

func (t *texts) key(kind pin.Kind, raw []byte) knownKey {
	return knownKey{kind, maphash.Bytes(t.seeds[0], raw)}
}

// find returns the text if it is known.
func (t *texts) find(key knownKey, raw []byte) *text {
	found, ok := t.known.Load(key)
	if !ok || !bytes.Equal(found.(*text).raw, raw) {
		return nil
	}
	return found.(*text)
}

// add keeps the text of a definition that is approved.
func (t *texts) add(key knownKey, d *pin.Definition, raw []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := form{d.Kind, d.Digest}
	if _, taken := t.known.Load(key); taken || t.forms[of] >= formsKept || t.size+len(raw) > textsKept {
		return
	}
	t.forms[of]++
	t.size += len(raw)
	t.known.Store(key, &text{name: d.Name, digest: d.Digest, raw: bytes.Clone(raw)})
}

// keep drops the texts that the set does not approve.
func (t *texts) keep(set *pin.Set) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known.Range(func(key, found any) bool {
		kind, held := key.(knownKey).kind, found.(*text)
		if set.Approves(kind, held.name, held.digest) {
			return true
		}
		t.known.Delete(key)
		t.size -= len(held.raw)
		of := form{kind, held.digest}
		if t.forms[of]--; t.forms[of] == 0 {
			delete(t.forms, of)
		}
		return true
	})
}

// others are texts that are not approved by one set of pins. They are recognised by two hashes
// under random seeds: should two texts ever have the same, one that is approved does not pass.
type others = lru.Cache[otherKey, other]

type otherKey struct {
	knownKey
	second uint64
}

type other struct {
	digest   pin.Digest
	readable bool      // it has a digest
	again    time.Time // when it is looked at again
}

func newOthers() *others {
	made, _ := lru.New[otherKey, other](othersKept) // an error would be about the size
	return made
}

func (t *texts) otherKey(key knownKey, raw []byte) otherKey {
	return otherKey{key, maphash.Bytes(t.seeds[1], raw)}
}
