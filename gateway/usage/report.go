package usage

import (
	"context"
	"errors"
	"slices"
	"time"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

const (
	// reportEvery is the time between two reports.
	reportEvery = time.Minute

	// unsupportedEvery is the time between two where Vault takes none.
	unsupportedEvery = time.Hour

	// lateNotes is how long after its end a day is not closed: by then a request that began
	// in it has been noted.
	lateNotes = 30 * time.Second

	// keptDays is how many days before today Vault takes reports of.
	keptDays = 1
)

// Engine takes reports: [vaultclient.Engine].
type Engine interface {
	ReportUsage(ctx context.Context, report *vaultclient.UsageReport) (refused int, err error)
}

// Observer counts for metrics.
type Observer interface {
	// UsageReported is called after each report: result is "ok", "failed" or "unsupported".
	UsageReported(result string)
	// UsageRefused counts rows that the engine does not keep, and UsageLost those for which
	// the gateway had no room, or no time.
	UsageRefused(rows int)
	UsageLost(rows int)
}

// reach is how Vault has answered.
type reach struct {
	failing     bool
	unsupported bool
	again       time.Time // no report before this
}

// Run reports once a minute until ctx is done. Then Close reports the rest.
func (r *Recorder) Run(ctx context.Context) {
	go r.lists.run(ctx)
	for backoff.Sleep(ctx, backoff.Jitter(reportEvery)) == nil {
		r.Tick(ctx)
	}
}

// Tick makes one report, if there is anything to be told.
func (r *Recorder) Tick(ctx context.Context) {
	now := r.options.Now()
	if now.Before(r.reach.again) {
		return
	}
	r.settle()
	r.begin(now)
	if report, rows := r.next(now, false); report != nil {
		r.send(ctx, report, rows, now)
	}
}

// Close reports everything that waits, and that there will be no more. Nothing is used any
// more by then.
func (r *Recorder) Close(ctx context.Context) {
	if r.reach.unsupported {
		return
	}
	r.settle()
	for ctx.Err() == nil {
		now := r.options.Now()
		report, rows := r.next(now, true)
		if report == nil {
			return
		}
		if !r.send(ctx, report, rows, now) {
			break
		}
	}
	if waiting := r.Stats().Waiting; waiting > 0 {
		r.log.Warn("the gateway ends before Vault has been told of all that was used", "rows", waiting)
	}
}

// begin drops the days of which Vault takes no reports any more, and opens today.
func (r *Recorder) begin(now time.Time) {
	today := check.DayOf(now)
	r.mu.Lock()
	wasAhead := r.returnTo(check.DayOf(r.options.Now())) // which is after all that was noted
	lost := 0
	for len(r.days) > 0 && r.days[0].Day < today-keptDays {
		lost += len(r.days[0].waiting)
		r.days = r.days[1:]
	}
	r.dayOf(today)
	again := r.pruned != today
	r.pruned = today
	r.mu.Unlock()
	if wasAhead {
		r.log.Warn("the clock was ahead: today will not be a complete day of usage")
	}
	if lost > 0 {
		r.log.Warn("usage is lost that was not reported in time: Vault takes only today's and yesterday's", "rows", lost)
		r.observe(func(o Observer) { o.UsageLost(lost) })
	}
	if again {
		r.prune(today)
	}
}

// next returns the next report, of the oldest day that is not closed, and how many of the
// waiting rows it has; nil if there is nothing to be told.
func (r *Recorder) next(now time.Time, last bool) (*vaultclient.UsageReport, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.days) == 0 {
		return nil, 0
	}
	d := r.days[0]
	rows := min(len(d.waiting), check.MaxReportRows)
	over := now.Sub((d.Day + 1).Start()) >= lateNotes
	report := &vaultclient.UsageReport{
		Gateway: r.options.Gateway, Day: d.String(), Lost: d.lost,
		Closed:  (last || over) && rows == len(d.waiting),
		Clients: make(map[string]*vaultclient.ClientUsage, rows),
	}
	if rows == 0 && !report.Closed {
		return nil, 0
	}
	for _, held := range d.waiting[:rows] {
		addTo(report.Clients, held.key)
	}
	return report, rows
}

func addTo(clients map[string]*vaultclient.ClientUsage, k key) {
	c := clients[k.client]
	if c == nil {
		c = &vaultclient.ClientUsage{}
		clients[k.client] = c
	}
	switch {
	case k.server != "":
		if c.Servers == nil {
			c.Servers = map[string][]string{}
		}
		c.Servers[k.server] = append(c.Servers[k.server], k.name)
	case k.name != "":
		c.Tokens = append(c.Tokens, k.name)
	}
}

// send sends the report, and forgets its rows when Vault has them.
func (r *Recorder) send(ctx context.Context, report *vaultclient.UsageReport, rows int, now time.Time) bool {
	refused, err := r.options.Engine.ReportUsage(ctx, report)
	if err != nil && ctx.Err() != nil {
		return false
	}
	r.tell(err, now)
	if err != nil {
		return false
	}
	left, lost := r.sent(report, rows)
	if refused > 0 {
		r.log.Warn("Vault does not keep all that was used: clients or servers are gone since", "refused", refused)
		r.observe(func(o Observer) { o.UsageRefused(refused) })
	}
	if lost > 0 {
		r.log.Warn("there was no room for all that was used", "uses", lost, "day", report.Day)
		r.observe(func(o Observer) { o.UsageLost(lost) })
	}
	if left > 0 {
		r.log.Info("more was used than one report has room for: the rest goes with the next", "rows", left)
	}
	return true
}

// sent forgets the rows of the report. It returns how many rows of its day still wait, and how
// many uses of it were lost since its last report.
func (r *Recorder) sent(report *vaultclient.UsageReport, rows int) (left, lost int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// It need not be the oldest any more: a use of an older day may have been noted meanwhile.
	at := slices.IndexFunc(r.days, func(d *day) bool { return d.String() == report.Day })
	d := r.days[at]
	d.waiting = d.waiting[rows:]
	lost, d.told = report.Lost-d.told, report.Lost
	if report.Closed && len(d.waiting) == 0 {
		r.days = slices.Delete(r.days, at, at+1)
	}
	return len(d.waiting), lost
}

// tell tells the log and the metrics how Vault has answered, and when to ask it again.
func (r *Recorder) tell(err error, now time.Time) {
	result := "ok"
	switch was := r.reach; {
	case err == nil:
		if was.failing || was.unsupported {
			r.log.Info("Vault takes reports of usage again")
		}
		r.reach.failing, r.reach.unsupported = false, false
	case errors.Is(err, vaultclient.ErrNoUsage):
		result = "unsupported"
		if !was.unsupported {
			r.log.Warn("the usage at this gateway will not be known: grant the gateway's policy update on gateway/usage of the mount, or upgrade the engine", "error", err)
		}
		r.reach.unsupported, r.reach.again = true, now.Add(unsupportedEvery)
	default:
		result = "failed"
		if !was.failing {
			r.log.Warn("usage could not be reported to Vault: trying again", "error", err)
		}
		r.reach.failing = true
	}
	r.observe(func(o Observer) { o.UsageReported(result) })
}

func (r *Recorder) observe(count func(Observer)) {
	if r.options.Observer != nil {
		count(r.options.Observer)
	}
}
