// Package policy tests that gateways enforce policies and tool rules.
package policy
