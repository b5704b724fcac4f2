package backend

import (
	"context"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
)

// Gateways report usage, by the day. It is not stored in the client's entry: that entry has the
// client's rights, and no report of a gateway may change it. Usage is stored under the client's
// id, so a client that is created again under the same name starts without any.
//
// An entry is written when one of its days changes: once a day for a thing that is used every
// day, however many gateways report it, and however often. Their number is bounded: there is
// one for each client, and one for each server that a client has used.

const (
	// maxUsageTokens bounds the tokens of a client whose last use is known. The one that was not
	// used for the longest time makes room.
	maxUsageTokens = 512

	// maxUsageTools bounds the tools of a server that a client has used. Further ones are counted
	// as the tool "".
	maxUsageTools = 512
)

// clientUsage says when a client was last used, under its id.
type clientUsage struct {
	Last   check.Day            `json:"last"`
	Tokens map[string]check.Day `json:"tokens,omitempty"` // by the rest of the accessor, behind the id
}

// serverUsage says when a client has last used a server's tools, under the client's id and the
// server's name. The tool "" is everything that is not a listed tool.
type serverUsage struct {
	Tools map[string]check.Day `json:"tools"`
}

func usageRowKey(clientID, server string) string { return clientID + "/" + server }

// later sets the day of a name, unless it has a later one. It reports whether that is a change.
func later(days map[string]check.Day, name string, day check.Day) bool {
	if days[name] >= day {
		return false
	}
	days[name] = day
	return true
}

// usageWindow is the range of days for which usage is kept.
type usageWindow struct {
	first, today check.Day
	days         int
}

func (w usageWindow) has(day check.Day) bool { return day >= w.first && day != 0 }

// since returns the day if it is in the window, else 0.
func (w usageWindow) since(day check.Day) check.Day {
	if !w.has(day) {
		return 0
	}
	return day
}

// off reports whether nothing is kept.
func (w usageWindow) off() bool { return w.days == 0 }

// prune removes the names that were last used before the window.
func (w usageWindow) prune(days map[string]check.Day) (removed bool) {
	for name, day := range days {
		if !w.has(day) {
			delete(days, name)
			removed = true
		}
	}
	return removed
}

// usageWindow returns the window of now.
func (b *mcpBackend) usageWindow(ctx context.Context, s logical.Storage) (usageWindow, error) {
	conf, err := b.config(ctx, s)
	if err != nil {
		return usageWindow{}, err
	}
	today := b.now()
	return usageWindow{first: check.DayOf(today.AddDate(0, 0, 1-conf.KeptDays())), today: check.DayOf(today), days: conf.KeptDays()}, nil
}

// usageOf returns when the client of the id was last used, nil if that is not known.
func (b *mcpBackend) usageOf(ctx context.Context, s logical.Storage, clientID string) (*clientUsage, error) {
	held, err := b.usage.get(ctx, s, clientID)
	if err != nil || held == nil {
		return nil, err
	}
	w, err := b.usageWindow(ctx, s)
	if err != nil || !w.has(held.Last) {
		return nil, err
	}
	return held, nil
}

// lastUsed is the day in the form of an answer. u may be nil.
func (u *clientUsage) lastUsed() any {
	if u == nil {
		return dayOrNull(0)
	}
	return dayOrNull(u.Last)
}

// tokenLastUsed is lastUsed of one of the client's tokens.
func (u *clientUsage) tokenLastUsed(accessor string) any {
	if u == nil || len(accessor) != accessorLength {
		return dayOrNull(0)
	}
	return dayOrNull(u.Tokens[accessor[idLength:]])
}

func dayOrNull(day check.Day) any {
	if day == 0 {
		return nil
	}
	return day.String()
}

// noteClient notes that the client was used on the day, with these of its tokens.
func (b *mcpBackend) noteClient(ctx context.Context, s logical.Storage, clientID string, tokens []string, day check.Day) error {
	defer b.usage.lock(clientID)()
	held, err := b.usage.getLocked(ctx, s, clientID)
	if err != nil {
		return err
	}
	next := &clientUsage{Last: day, Tokens: make(map[string]check.Day, len(tokens))}
	changed := held == nil
	if held != nil {
		changed, next.Last = day > held.Last, max(day, held.Last)
		for suffix, last := range held.Tokens {
			next.Tokens[suffix] = last
		}
	}
	for _, accessor := range tokens {
		changed = later(next.Tokens, accessor[idLength:], day) || changed
	}
	if !changed {
		return nil
	}
	dropOldest(next.Tokens, maxUsageTokens)
	return b.usage.put(ctx, s, clientID, next)
}

// dropOldest leaves at most so many, those of the latest days.
func dropOldest(days map[string]check.Day, most int) {
	if len(days) <= most {
		return
	}
	names := sortedKeys(days)
	slices.SortStableFunc(names, func(a, b string) int { return int(days[a] - days[b]) })
	for _, name := range names[:len(names)-most] {
		delete(days, name)
	}
}

// noteTools notes that the client has used these tools of the server on the day.
func (b *mcpBackend) noteTools(ctx context.Context, s logical.Storage, clientID, server string, tools []string, day check.Day, w usageWindow) error {
	key := usageRowKey(clientID, server)
	defer b.usageRows.lock(key)()
	held, err := b.usageRows.getLocked(ctx, s, key)
	if err != nil {
		return err
	}
	next := &serverUsage{Tools: make(map[string]check.Day, len(tools))}
	if held != nil {
		for tool, last := range held.Tools {
			next.Tools[tool] = last
		}
	}
	changed := false
	for _, tool := range tools {
		if _, known := next.Tools[tool]; !known && len(next.Tools) >= maxUsageTools && tool != "" {
			w.prune(next.Tools)
			if len(next.Tools) >= maxUsageTools {
				tool = ""
			}
		}
		changed = later(next.Tools, tool, day) || changed
	}
	if !changed {
		return nil
	}
	return b.usageRows.put(ctx, s, key, next)
}

// forgetUsage removes the usage of a client that is gone. A failure is only logged: no other
// client gets this usage, and tidy removes it.
func (b *mcpBackend) forgetUsage(ctx context.Context, s logical.Storage, clientID string) {
	ctx, cancel := durable(ctx)
	defer cancel()
	if err := b.dropUsage(ctx, s, clientID); err != nil {
		b.Logger().Warn("the usage of a deleted client stays in storage until the next tidy", "client_id", clientID, "error", err)
	}
}

func (b *mcpBackend) dropUsage(ctx context.Context, s logical.Storage, clientID string) error {
	servers, err := s.List(ctx, usageRowsPrefix+clientID+"/")
	if err != nil {
		return err
	}
	for _, server := range servers {
		if err := deleteEntry(ctx, s, b.usageRows, usageRowKey(clientID, server)); err != nil {
			return err
		}
	}
	return deleteEntry(ctx, s, b.usage, clientID)
}

func deleteEntry[T any](ctx context.Context, s logical.Storage, c *collection[T], key string) error {
	defer c.lock(key)()
	return c.delete(ctx, s, key)
}

// clientOfID returns the client with the id, and its name; nil if it is gone.
func (b *mcpBackend) clientOfID(ctx context.Context, s logical.Storage, id string) (name string, c *clientEntry, err error) {
	var uid uidEntry
	if ok, err := getJSON(ctx, s, uidPrefix+id, &uid); err != nil || !ok {
		return "", nil, err
	}
	c, err = b.clients.get(ctx, s, uid.Client)
	if err != nil || c == nil || c.ID != id {
		return "", nil, err
	}
	return uid.Client, c, nil
}

// usageOwner returns the client of the id, nil if it is gone, and the present window:
// tidy removes usage that belongs to neither.
func (b *mcpBackend) usageOwner(ctx context.Context, s logical.Storage, id string) (c *clientEntry, w usageWindow, err error) {
	if _, c, err = b.clientOfID(ctx, s, id); err == nil {
		w, err = b.usageWindow(ctx, s)
	}
	return c, w, err
}

// tidyUsage removes the usage of a client that is gone, or from before the window, and the
// days of tokens that are gone.
func (b *mcpBackend) tidyUsage(ctx context.Context, s logical.Storage, clientID string) error {
	c, w, err := b.usageOwner(ctx, s, clientID)
	if err != nil {
		return err
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.usage.lock(clientID)()
	held, err := b.usage.getLocked(ctx, s, clientID)
	if err != nil || held == nil {
		return err
	}
	if c == nil || !w.has(held.Last) {
		return b.usage.delete(ctx, s, clientID)
	}
	next := &clientUsage{Last: held.Last, Tokens: make(map[string]check.Day, len(held.Tokens))}
	for suffix, last := range held.Tokens {
		there, err := b.hasToken(ctx, s, c, clientID+suffix)
		if err != nil {
			return err
		}
		if there && w.has(last) {
			next.Tokens[suffix] = last
		}
	}
	if len(next.Tokens) == len(held.Tokens) {
		return nil
	}
	return b.usage.put(ctx, s, clientID, next)
}

// hasToken reports whether the client has a token of the accessor, live or not.
func (b *mcpBackend) hasToken(ctx context.Context, s logical.Storage, c *clientEntry, accessor string) (bool, error) {
	if len(accessor) != accessorLength || !strings.HasPrefix(accessor, c.ID) {
		return false, nil
	}
	if c.byAccessor(accessor) != nil {
		return true, nil
	}
	lease, err := s.Get(ctx, leaseKey(c.ID, accessor[idLength:]))
	return lease != nil, err
}

// tidyUsageRows removes the usage of a server by a client that is gone, or from before
// the window. The usage of a server that is gone stays: the server may be registered
// again.
func (b *mcpBackend) tidyUsageRows(ctx context.Context, s logical.Storage, key string) error {
	clientID, _, _ := strings.Cut(key, "/")
	c, w, err := b.usageOwner(ctx, s, clientID)
	if err != nil {
		return err
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.usageRows.lock(key)()
	held, err := b.usageRows.getLocked(ctx, s, key)
	if err != nil || held == nil {
		return err
	}
	next := &serverUsage{Tools: make(map[string]check.Day, len(held.Tools))}
	for tool, last := range held.Tools {
		if c != nil && w.has(last) {
			next.Tools[tool] = last
		}
	}
	switch len(next.Tools) {
	case 0:
		return b.usageRows.delete(ctx, s, key)
	case len(held.Tools):
		return nil
	}
	return b.usageRows.put(ctx, s, key, next)
}

// maxListedUsage is how many clients a list has at most to say of each when it was last used:
// for that it reads two entries of each.
const maxListedUsage = 10_000

func (b *mcpBackend) listClients(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	names, err := b.clients.list(ctx, req.Storage)
	if err != nil || len(names) > maxListedUsage {
		return logical.ListResponse(names), err
	}
	w, err := b.usageWindow(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	last := map[string]check.Day{} // by id
	err = b.usage.each(ctx, req.Storage, func(id string, u *clientUsage) { last[id] = w.since(u.Last) })
	if err != nil {
		return nil, err
	}
	info := make(map[string]any, len(names))
	err = b.clients.each(ctx, req.Storage, func(name string, c *clientEntry) {
		info[name] = map[string]any{"last_used": dayOrNull(last[c.ID])}
	})
	if err != nil {
		return nil, err
	}
	return logical.ListResponseWithInfo(names, info), nil
}
