package backend

import (
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// dump is the storage of a mount as one version of the engine left it, with the
// secrets that were handed out. A file of it under testdata/storage is never generated
// again: Vaults in use have such storage.
type dump struct {
	Version   string               `json:"version"`
	Time      time.Time            `json:"time"`
	Storage   map[string][]byte    `json:"storage"`
	Tokens    map[string]string    `json:"tokens"`
	Accessors map[string]string    `json:"accessors"`
	Leases    map[string]dumpLease `json:"leases"`
	Feed      data                 `json:"feed"` // the last answer that a gateway has had
	Lookups   map[string]data      `json:"lookups"`
	Decisions map[string]string    `json:"decisions"` // "client server" to decision
	Gateway   map[string]data      `json:"gateway"`   // the answers to gateways, by path
	Clients   map[string]data      `json:"clients"`
	Servers   map[string]data      `json:"servers"`
	Policies  map[string]data      `json:"policies"`
	Config    data                 `json:"config"`
}

// dumpLease is a lease as Vault keeps it.
type dumpLease struct {
	Token  string          `json:"token"`
	Secret *logical.Secret `json:"secret"`
	Data   data            `json:"data"`
}

const dumpFile = "testdata/storage/v0.1.0.json"

func readDump(t *testing.T) *dump {
	t.Helper()
	b, err := os.ReadFile(dumpFile)
	require.NoError(t, err)
	d := &dump{}
	require.NoError(t, json.Unmarshal(b, d))
	return d
}

// start is this version of the engine over a copy of the dump's storage, at the
// time when it was made.
func (d *dump) start(t *testing.T) *env {
	t.Helper()
	storage := &logical.InmemStorage{}
	for key, value := range d.Storage {
		require.NoError(t, storage.Put(context.Background(), &logical.StorageEntry{Key: key, Value: value}))
	}
	c := newClock()
	c.now = d.Time
	e := newEnvOn(t, storage, c)
	require.NoError(t, e.b.Initialize(context.Background(), &logical.InitializationRequest{Storage: storage}))
	return e
}

// lease is a lease of the dump as Vault gives it back to the engine.
func (d *dump) lease(t *testing.T, name string) *lease {
	t.Helper()
	l := d.Leases[name]
	secret := *l.Secret
	issued, err := time.Parse(time.RFC3339, l.Data["issued_at"].(string))
	require.NoError(t, err)
	secret.IssueTime = issued // Vault keeps it beside the rest
	return &lease{token: l.Token, secret: &secret, data: l.Data}
}
