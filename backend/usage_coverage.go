package backend

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
)

// That something was not used is only known of a day of which every gateway that was there has
// reported everything. So each day has an entry with its gateways. A gateway gets into it by
// its request for changes, with which it sends its id, and not by its reports: so one that
// never reports leaves a gap. It closes the day when it has reported the last of it.

const (
	// maxGatewaysADay bounds the gateways of a day. Each start is another one.
	maxGatewaysADay = 512

	// presenceEvery is how often it is stored that a gateway is still there.
	presenceEvery = 15 * time.Minute
)

// usageDay is a day with its gateways, under the day.
type usageDay struct {
	// Partial: the engine has kept nothing of the day before, so of this one it may have kept a
	// part.
	Partial  bool                   `json:"partial,omitempty"`
	Gateways map[string]*gatewayDay `json:"gateways,omitempty"` // by id; "": those that send none
	// More: there were more gateways than the entry has room for.
	More bool `json:"more,omitempty"`
}

// gatewayDay is the engine's record of a gateway on one day.
type gatewayDay struct {
	First    time.Time `json:"first"`             // when it was seen first
	Last     time.Time `json:"last"`              // and last, to presenceEvery
	Reported time.Time `json:"reported,omitzero"` // likewise
	Closed   bool      `json:"closed,omitempty"`
	Lost     int       `json:"lost,omitempty"` // the number of uses that it could not keep
}

func (d *usageDay) clone() *usageDay {
	next := &usageDay{Gateways: map[string]*gatewayDay{}}
	if d != nil {
		next.Partial, next.More = d.Partial, d.More
		for id, g := range d.Gateways {
			next.Gateways[id] = new(*g)
		}
	}
	return next
}

// gateway returns the gateway's part, nil if there is no room for another one.
func (d *usageDay) gateway(id string, now time.Time) *gatewayDay {
	g := d.Gateways[id]
	if g == nil && len(d.Gateways) >= maxGatewaysADay {
		d.More = true
		return nil
	}
	if g == nil {
		g = &gatewayDay{First: now}
		d.Gateways[id] = g
	}
	g.Last = now
	return g
}

// presence has in memory when gateways were stored last, so that their requests seldom write.
type presence struct {
	mu     sync.Mutex
	begun  check.Day // the day whose entry is there
	stored map[string]time.Time
}

// due reports whether the gateway is to be stored. The days of the two times may differ.
func (p *presence) due(gateway string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, known := p.stored[gateway]
	return !known || now.Sub(last) >= presenceEvery || check.DayOf(last) != check.DayOf(now)
}

func (p *presence) note(gateway string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stored == nil || len(p.stored) >= 2*maxGatewaysADay {
		p.stored = map[string]time.Time{}
	}
	p.stored[gateway] = now
}

// changeDay changes the entry of a day, which it makes if it is not there. The entry of the day
// before shows whether the engine was running when the day began.
func (b *mcpBackend) changeDay(ctx context.Context, s logical.Storage, day check.Day, change func(*usageDay) bool) error {
	defer b.usageDays.lock(day.String())()
	held, err := b.usageDays.getLocked(ctx, s, day.String())
	if err != nil {
		return err
	}
	next := held.clone()
	if held == nil {
		before, err := b.usageDays.read(ctx, s, (day - 1).String())
		if err != nil {
			return err
		}
		next.Partial = before == nil
	}
	if changed := change(next); !changed && held != nil {
		return nil
	}
	return b.usageDays.put(ctx, s, day.String(), next)
}

// beginDay makes the entry of today, which shows that the engine was there, also if no gateway
// was.
func (b *mcpBackend) beginDay(ctx context.Context, s logical.Storage) error {
	w, err := b.usageWindow(ctx, s)
	if err != nil || w.off() {
		return err
	}
	b.presence.mu.Lock()
	begun := b.presence.begun == w.today
	b.presence.mu.Unlock()
	if begun {
		return nil
	}
	if err := b.changeDay(ctx, s, w.today, func(*usageDay) bool { return false }); err != nil {
		return err
	}
	b.presence.mu.Lock()
	defer b.presence.mu.Unlock()
	b.presence.begun = w.today
	return nil
}

// noteGateway records that the gateway is running; "" stands for one that sends no id. A
// failure is only logged: its next request records it, and revocations must not wait for
// storage.
func (b *mcpBackend) noteGateway(ctx context.Context, s logical.Storage, gateway string) {
	now := b.now()
	if !b.presence.due(gateway, now) {
		return
	}
	err := b.storeGateway(ctx, s, gateway, now)
	if err != nil {
		b.Logger().Warn("it was not stored that a gateway is there, will be with its next request", "error", err)
	}
}

func (b *mcpBackend) storeGateway(ctx context.Context, s logical.Storage, gateway string, now time.Time) error {
	w, err := b.usageWindow(ctx, s)
	if err != nil || w.off() {
		return err
	}
	err = b.changeDay(ctx, s, w.today, func(d *usageDay) bool { return d.gateway(gateway, now) != nil || d.More })
	if err == nil {
		b.presence.note(gateway, now)
	}
	return err
}

// noteReport notes that the gateway has reported. It writes when the report changes the record
// of the day, and otherwise seldom.
func (b *mcpBackend) noteReport(ctx context.Context, s logical.Storage, report *usageReport) error {
	now := b.now()
	return b.changeDay(ctx, s, report.day, func(d *usageDay) bool {
		_, known := d.Gateways[report.gateway]
		g := d.gateway(report.gateway, now)
		if g == nil {
			return true
		}
		changed := !known || now.Sub(g.Reported) >= presenceEvery || report.closed && !g.Closed || report.lost > g.Lost
		g.Reported, g.Closed, g.Lost = now, g.Closed || report.closed, max(g.Lost, report.lost)
		return changed
	})
}

// tidyUsageDay removes a day that is before the window.
func (b *mcpBackend) tidyUsageDay(ctx context.Context, s logical.Storage, key string) error {
	w, err := b.usageWindow(ctx, s)
	if err != nil {
		return err
	}
	day, err := check.ParseDay(key)
	if err == nil && w.has(day) {
		return nil
	}
	return deleteEntry(ctx, s, b.usageDays, key)
}
