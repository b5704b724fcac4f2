package backend

import (
	"context"
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *mcpBackend) pathTidy() []*framework.Path {
	return []*framework.Path{
		describe(&framework.Path{
			Pattern: "tidy",
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: &framework.PathOperation{
					Callback:     b.tidyNow,
					Summary:      "Remove expired and dangling entries from storage.",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "tidy"},
					Responses: map[int][]framework.Response{http.StatusAccepted: {{
						Description: "Accepted: the run goes on in the background.",
					}}},
					ForwardPerformanceStandby:   true,
					ForwardPerformanceSecondary: true,
				},
			},
			HelpSynopsis: "Remove expired and dangling entries from storage.",
			HelpDescription: `
Nothing depends on it: an expired or revoked token is refused whether its entry is
still there or not. It runs by itself every hour, in bounded slices; this starts
one run to its end, in the background. tidy/status tells how far it is.`,
		}),
		describe(&framework.Path{
			Pattern: "tidy/status",
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{
					Callback: b.readTidyStatus,
					Summary:  "Read how far tidy is.",
					// Tidy runs on the active node, and each node knows of its own runs only.
					ForwardPerformanceStandby:   true,
					ForwardPerformanceSecondary: true,
					DisplayAttrs:                &framework.DisplayAttributes{OperationVerb: "read", OperationSuffix: "tidy-status"},
					Responses: responses(map[string]*framework.FieldSchema{
						"state":           {Type: framework.TypeString, Description: "idle, running, paused (goes on with the next periodic run), finished or failed."},
						"started_at":      {Type: framework.TypeString, Description: "When the last run started (RFC 3339)."},
						"finished_at":     {Type: framework.TypeString, Description: "When it ended (RFC 3339)."},
						"error":           {Type: framework.TypeString, Description: "Why it failed."},
						"clients_checked": {Type: framework.TypeInt64, Description: "How many clients it has looked at."},
						"tokens_checked":  {Type: framework.TypeInt64, Description: "How many token entries it has looked at."},
						"tokens_removed":  {Type: framework.TypeInt64, Description: "How many token entries it has removed."},
						"progress":        {Type: framework.TypeInt, Description: "How much of the run is done, in percent."},
					}),
				},
			},
			HelpSynopsis:    "Read how far tidy is.",
			HelpDescription: "The counts are those of the run under way, or of the last one, on the active node since it became active.",
		}),
	}
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
