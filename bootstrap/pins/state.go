package pins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/bootstrap/connect"
)

// Broker is the engine, as an approver asks it.
type Broker struct {
	Vault *api.Client
	Mount string
}

// State is that of the pins of one server, as the engine answers it.
type State struct {
	Server          string     `json:"server"`
	Pin             pin.Mode   `json:"pin"`
	PinKinds        []pin.Kind `json:"pin_kinds"`
	Place           string     `json:"place"`
	Approved        []Entry    `json:"approved"`
	Reported        []Entry    `json:"reported"`
	TrustFirstUntil *time.Time `json:"trust_first_until"`
	Frozen          []Name     `json:"frozen"`
	Lost            int        `json:"lost"`
}

// Name is the kind and the name of a definition.
type Name struct {
	Kind pin.Kind `json:"kind"`
	Name string   `json:"name"`
}

// Entry is a definition that is approved or reported.
type Entry struct {
	Name

	Digest pin.Digest `json:"digest"`
	At     time.Time  `json:"at"`

	By        string `json:"by,omitempty"`         // who approved it
	FirstSeen bool   `json:"first_seen,omitempty"` // no person approved it: trust_first did
	Size      int    `json:"size,omitempty"`       // of its text, in bytes
	Change    string `json:"change,omitempty"`     // of one that is reported: new or changed
	Text      string `json:"text,omitempty"`       // "": it is not kept
}

// Summary counts the definitions of one server.
type Summary struct {
	Server   string   `json:"server"`
	Pin      pin.Mode `json:"pin"`
	Approved int      `json:"approved"`
	Reported int      `json:"reported"`
}

// List counts the definitions of every server that has any.
func (b *Broker) List(ctx context.Context) ([]Summary, error) {
	path := b.path("")
	secret, err := b.get(ctx, path, url.Values{"list": {"true"}})
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", path, err)
	}
	var answer struct {
		Keys []string           `json:"keys"`
		Info map[string]Summary `json:"key_info"`
	}
	if err := decode(secret, &answer); err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", path, err)
	}
	all := make([]Summary, 0, len(answer.Keys))
	for _, server := range answer.Keys {
		summary := answer.Info[server]
		summary.Server = server
		all = append(all, summary)
	}
	return all, nil
}

// Read reads the pins of a server, with the texts of its definitions if they are asked for.
func (b *Broker) Read(ctx context.Context, server string, texts bool) (*State, error) {
	path := b.path(server)
	secret, err := b.get(ctx, path, url.Values{"texts": {fmt.Sprint(texts)}})
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	if secret == nil {
		return nil, fmt.Errorf("there is no server %q: `vault list %s/servers` has the names", server, strings.Trim(b.Mount, "/"))
	}
	s := &State{}
	if err := decode(secret, s); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	for _, list := range [][]Entry{s.Approved, s.Reported} {
		slices.SortFunc(list, compareEntries)
	}
	return s, nil
}

// compareEntries orders by kind, name, and time.
func compareEntries(a, b Entry) int {
	kinds := pin.Kinds()
	if order := slices.Index(kinds, a.Kind) - slices.Index(kinds, b.Kind); order != 0 {
		return order
	}
	if order := strings.Compare(a.Name.Name, b.Name.Name); order != 0 {
		return order
	}
	if order := a.At.Compare(b.At); order != 0 {
		return order
	}
	return a.Digest.Compare(b.Digest)
}

// Approve approves definitions of a server, all of them or none, unless it leads elsewhere by
// now. It returns Vault's warnings.
func (b *Broker) Approve(ctx context.Context, s *State, entries []Entry) ([]string, error) {
	definitions := make([]map[string]any, 0, len(entries))
	for i := range entries {
		e := &entries[i]
		definitions = append(definitions, map[string]any{"kind": e.Kind, "name": e.Name.Name, "digest": e.Digest.String()})
	}
	path := b.path(s.Server)
	secret, err := b.Vault.Logical().WriteWithContext(ctx, path, map[string]any{"definitions": definitions, "place": s.Place})
	switch {
	case err != nil && connect.NoAnswer(err):
		return nil, fmt.Errorf("cannot tell whether %s was written, look with `mcp-bootstrap pins list`: %w", path, connect.Explain(err))
	case err != nil:
		return nil, fmt.Errorf("nothing was approved: %w", connect.Explain(err))
	case secret == nil:
		return nil, nil
	}
	return secret.Warnings, nil
}

// get reads a path; nil if nothing is there. Vault's client takes a mount that does not exist for
// an empty one: here it is an error, which Vault's answer names.
func (b *Broker) get(ctx context.Context, path string, query url.Values) (*api.Secret, error) {
	if timeout := b.Vault.ClientTimeout(); timeout > 0 { // a raw read has none of its own
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	resp, err := b.Vault.Logical().ReadRawWithDataWithContext(ctx, path, query)
	if resp != nil {
		defer resp.Body.Close()
	}
	var answer *api.ResponseError
	switch {
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound && len(answer.Errors) == 0:
		return nil, nil
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%s: give -mount, the path where the engine is mounted", strings.TrimSuffix(connect.Reason(err), "."))
	case err != nil:
		return nil, connect.Explain(err)
	}
	return api.ParseSecret(resp.Body)
}

func (b *Broker) path(server string) string {
	return strings.Trim(b.Mount, "/") + "/pins/" + server
}

// decode puts an answer's data into a value. An answer without data leaves the value as it is.
func decode(secret *api.Secret, into any) error {
	if secret == nil || secret.Data == nil {
		return nil
	}
	data, err := json.Marshal(secret.Data)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("the answer is not one of this version of the engine: %w", err)
	}
	return nil
}
