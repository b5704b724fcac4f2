// Package policy tests that gateways enforce policies, rules about tools, prompts and resources,
// and rate limits.
package policy
