package backend

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *mcpBackend) pathTidy() []*framework.Path {
	return build(
		path{
			pattern: "tidy",
			ops: operations{
				logical.UpdateOperation: {
					do: b.tidyNow, verb: "tidy",
					responses: map[int][]framework.Response{http.StatusAccepted: {{Description: "Accepted: the run goes on in the background."}}},
				},
			},
			synopsis: "Remove expired and dangling entries from storage.",
			help: `
Nothing depends on it: an expired or revoked token is refused whether its entry is
still there or not. Tidy runs by itself every hour, in bounded slices. A write starts
one whole run in the background; tidy/status shows its progress.`,
		},
		path{
			pattern: "tidy/status",
			about:   "tidy-status",
			ops: operations{
				logical.ReadOperation: {
					do: b.readTidyStatus, runs: onActive, // tidy runs there, and each node knows of its own runs only
					answers: fields{
						"state":           {Type: framework.TypeString, Description: "idle, running, paused (goes on with the next periodic run), finished or failed."},
						"started_at":      {Type: framework.TypeString, Description: "When the last run started (RFC 3339)."},
						"finished_at":     {Type: framework.TypeString, Description: "When it ended (RFC 3339)."},
						"error":           {Type: framework.TypeString, Description: "Why it failed."},
						"clients_checked": {Type: framework.TypeInt64, Description: "How many clients it has looked at."},
						"tokens_checked":  {Type: framework.TypeInt64, Description: "How many token entries it has looked at."},
						"tokens_removed":  {Type: framework.TypeInt64, Description: "How many token entries it has removed."},
						"progress":        {Type: framework.TypeInt, Description: "How much of the run is done, in percent."},
					},
				},
			},
			synopsis: "Read the progress of tidy.",
			help:     "The counts are those of the present run, or of the last one, on the active node since it became active.",
		},
	)
}

func (b *mcpBackend) tidyNow(_ context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	resp := &logical.Response{}
	if b.startTidy(req.Storage, 0) {
		resp.AddWarning("tidy runs in the background: read tidy/status to follow it")
	} else {
		resp.AddWarning("tidy is running already: read tidy/status to follow it")
	}
	return logical.RespondWithStatusCode(resp, req, http.StatusAccepted)
}

func (b *mcpBackend) readTidyStatus(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
	status := b.tidying.read()
	if status.State == "" {
		status.State = "idle"
	}
	return &logical.Response{Data: map[string]any{
		"state":           status.State,
		"started_at":      formatTime(status.StartedAt),
		"finished_at":     formatTime(status.FinishedAt),
		"error":           status.Error,
		"clients_checked": status.ClientsChecked,
		"tokens_checked":  status.TokensChecked,
		"tokens_removed":  status.TokensRemoved,
		"progress":        status.Progress,
	}}, nil
}

const (
	// tidyEvery is how often the periodic function starts a run.
	tidyEvery = time.Hour

	// tidyBudget is how long a run started by the periodic function may take; the
	// next one continues where it stopped.
	tidyBudget = 20 * time.Second
)

// tidyStatus is the answer of tidy/status.
type tidyStatus struct {
	State          string // idle, running, finished, paused or failed
	StartedAt      time.Time
	FinishedAt     time.Time
	Error          string
	TokensChecked  int64
	TokensRemoved  int64
	ClientsChecked int64
	Progress       int // percent
	position       tidyPosition
}

// tidyPosition is how far a run is: a stage, and the last key that is done,
// relative to the stage's prefix.
type tidyPosition struct {
	stage int
	after string
}

// passed reports whether the run has left that name behind, which is a key or,
// with a slash at its end, a folder of keys.
func (p tidyPosition) passed(name string) bool {
	return name <= p.after && !(strings.HasSuffix(name, "/") && strings.HasPrefix(p.after, name))
}

// tidyRun guards the one run that there may be.
type tidyRun struct {
	mu      sync.Mutex
	running bool
	status  tidyStatus

	// dataKeys are those that the run has found in use.
	dataKeys map[string]struct{}
}

// begin takes the run, unless there is one already. A run that was paused continues
// where it stopped, unless it is to start afresh.
func (t *tidyRun) begin(now time.Time, afresh bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running {
		return false
	}
	t.running = true
	if afresh || t.status.State != "paused" {
		t.status = tidyStatus{StartedAt: now}
		t.dataKeys = map[string]struct{}{}
	}
	t.status.State, t.status.FinishedAt = "running", time.Time{}
	return true
}

func (t *tidyRun) end(now time.Time, done bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = false
	t.status.FinishedAt = now
	switch {
	case err != nil:
		t.status.State, t.status.Error = "failed", err.Error()
	case done:
		t.status.State, t.status.Progress = "finished", 100
	default:
		t.status.State = "paused"
	}
}

func (t *tidyRun) update(change func(*tidyStatus)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.status)
}

// uses notes a data key under which a token is sealed; "" stands for no key.
func (t *tidyRun) uses(dataKey string) {
	if dataKey == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dataKeys[dataKey] = struct{}{}
}

// unused returns those of the data keys under which no token was found.
func (t *tidyRun) unused(ids []string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.DeleteFunc(ids, func(id string) bool {
		_, used := t.dataKeys[id]
		return used
	})
}

func (t *tidyRun) read() tidyStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// tidyWhenDue starts a bounded run, or the rest of one that was paused.
func (b *mcpBackend) tidyWhenDue(s logical.Storage) {
	now := b.now()
	status := b.tidying.read()
	if status.State != "paused" && now.Unix()-b.lastTidy.Load() < int64(tidyEvery/time.Second) {
		return
	}
	b.startTidy(s, tidyBudget)
}

// startTidy runs tidy in the background: for at most budget, or with a budget of 0
// afresh and to its end. It answers false if a run is under way.
func (b *mcpBackend) startTidy(s logical.Storage, budget time.Duration) bool {
	if !b.tidying.begin(b.now(), budget == 0) {
		return false
	}
	b.lastTidy.Store(b.now().Unix())
	ctx, cancel := b.background, context.CancelFunc(func() {})
	if budget > 0 {
		ctx, cancel = context.WithTimeout(ctx, budget)
	}
	go func() {
		defer cancel()
		err := b.tidy(ctx, s)
		if ctx.Err() != nil {
			b.tidying.end(b.now(), false, nil)
			return
		}
		if err != nil {
			b.Logger().Error("tidy failed, and starts again with the next run", "error", err)
		}
		b.tidying.end(b.now(), err == nil, err)
	}()
	return true
}
