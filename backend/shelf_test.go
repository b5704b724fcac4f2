package backend

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"
)

// shelf is storage in memory that finds and lists keys in the same time however
// many there are, and counts its calls.
type shelf struct {
	mu      sync.RWMutex
	folders map[string]map[string][]byte // by path: the values of keys, nil of folders in it

	counting sync.Mutex
	calls    []string // while recording: the calls, with their keys
	record   bool
}

func newShelf() *shelf { return &shelf{folders: map[string]map[string][]byte{}} }

// recorded returns the calls that do makes.
func (s *shelf) recorded(do func()) []string {
	s.counting.Lock()
	s.record, s.calls = true, nil
	s.counting.Unlock()
	do()
	s.counting.Lock()
	defer s.counting.Unlock()
	s.record = false
	return s.calls
}

func (s *shelf) note(what, key string) {
	s.counting.Lock()
	defer s.counting.Unlock()
	if s.record {
		s.calls = append(s.calls, what+" "+key)
	}
}

// folder returns the path of the folder that a key is in, and its name there.
func folder(key string) (path, name string) {
	at := strings.LastIndexByte(strings.TrimSuffix(key, "/"), '/') + 1
	return key[:at], key[at:]
}

func (s *shelf) Get(_ context.Context, key string) (*logical.StorageEntry, error) {
	s.note("get", key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	path, name := folder(key)
	value, ok := s.folders[path][name]
	if !ok {
		return nil, nil
	}
	return &logical.StorageEntry{Key: key, Value: value}, nil
}

func (s *shelf) Put(_ context.Context, entry *logical.StorageEntry) error {
	s.note("put", entry.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(entry.Key, entry.Value)
	return nil
}

func (s *shelf) set(key string, value []byte) {
	path, name := folder(key)
	held := s.folders[path]
	if held == nil {
		held = map[string][]byte{}
		s.folders[path] = held
		if path != "" {
			s.set(path, nil)
		}
	}
	held[name] = value
}

func (s *shelf) Delete(_ context.Context, key string) error {
	s.note("delete", key)
	s.mu.Lock()
	defer s.mu.Unlock()
	for key != "" {
		path, name := folder(key)
		delete(s.folders[path], name)
		if len(s.folders[path]) > 0 {
			return nil
		}
		delete(s.folders, path)
		key = path
	}
	return nil
}

func (s *shelf) List(_ context.Context, prefix string) ([]string, error) {
	s.note("list", prefix)
	s.mu.RLock()
	defer s.mu.RUnlock()
	names := make([]string, 0, len(s.folders[prefix]))
	for name := range s.folders[prefix] {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}
