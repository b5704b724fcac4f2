package check

import (
	"fmt"
	"math"

	"vault-plugin-secrets-mcp/backend/policy"
)

// AnyServer in allowed_servers stands for every server.
const AnyServer = "*"

// The bounds of rights.
const (
	maxNames = 1024      // of allowed_servers, and rules of each list
	maxRules = 128 << 10 // bytes of the rules of each list: all of a client fit into an entry of Vault's storage
	maxRate  = 1e6
	maxBurst = 1e6
)

// Rights are the fields that give a client servers, and rules about their items.
type Rights struct {
	policy.Lists

	// RateLimit is how many requests a second the client may send to each gateway. 0: no limit.
	RateLimit float64 `json:"rate_limit,omitempty"`
	RateBurst int     `json:"rate_burst,omitempty"` // how many at once. 0: as many as a second has
}

// Limit returns the rate limit with its burst.
func (r *Rights) Limit() policy.RateLimit {
	limit := policy.RateLimit{Rate: r.RateLimit, Burst: r.RateBurst}
	if limit.Rate > 0 && limit.Burst == 0 {
		limit.Burst = max(1, int(math.Ceil(limit.Rate)))
	}
	return limit
}

// ruleList is a list of rules about one kind of item.
type ruleList struct {
	field string
	item  policy.Item
	rules []string
}

func (r *Rights) ruleLists() []ruleList {
	return []ruleList{
		{"allowed_tools", policy.Tool, r.AllowedTools},
		{"denied_tools", policy.Tool, r.DeniedTools},
		{"allowed_prompts", policy.Prompt, r.AllowedPrompts},
		{"denied_prompts", policy.Prompt, r.DeniedPrompts},
		{"allowed_resources", policy.Resource, r.AllowedResources},
		{"denied_resources", policy.Resource, r.DeniedResources},
	}
}

func (r *Rights) check(p *Problems) {
	for _, name := range r.AllowedServers {
		if name != AnyServer {
			p.wrap("allowed_servers", ServerName(name))
		}
	}
	for _, list := range r.ruleLists() {
		for _, rule := range list.rules {
			p.wrap(list.field, policy.ValidateRule(list.item, rule))
		}
	}
	if r.RateLimit < 0 || r.RateLimit > maxRate || math.IsNaN(r.RateLimit) {
		p.add("rate_limit", "field rate_limit: %v is not a valid number of requests a second: use a number from 0, which is no limit, to %d", r.RateLimit, int(maxRate))
	}
	if r.RateBurst < 0 || r.RateBurst > maxBurst {
		p.add("rate_burst", "field rate_burst: %d is not a valid number of requests: use 0, which is as many as a second has, to %d", r.RateBurst, int(maxBurst))
	}
	if r.RateBurst > 0 && r.RateLimit == 0 {
		p.add("rate_burst", "field rate_burst: it means nothing without a rate_limit: set that too, or leave both out")
	}
}

func (r *Rights) checkSize(p *Problems) {
	bounded{"allowed_servers", len(r.AllowedServers), maxNames}.check(p)
	for _, list := range r.ruleLists() {
		bounded{list.field, len(list.rules), maxNames}.check(p)
		size := 0
		for _, rule := range list.rules {
			size += len(rule)
		}
		if size > maxRules {
			p.bound(list.field, "its rules are %d bytes long: at most %d are allowed, since every lookup answers all of them: use wildcards", size, maxRules)
		}
	}
}

// NoSuchServer is the warning about a name in allowed_servers, of a client or of a role,
// without such a server.
func NoSuchServer(name string) string {
	return fmt.Sprintf("no server %q is registered: allowed_servers admits it once it is (servers/%s)", name, name)
}
