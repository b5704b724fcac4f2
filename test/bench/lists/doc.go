// Package lists measures the cost of judging lists of tools, by rules and by pins, with real
// processes over the loopback: `make bench-lists`.
package lists
