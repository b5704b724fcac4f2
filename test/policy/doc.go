// Package policy has gateways enforce policies and tool rules.
package policy
