// Package lists measures what it costs to judge lists of tools, by rules and by pins, with real
// processes over the loopback: `make bench-lists`.
package lists
