// Package measure is what the benchmarks share: the processes around the gateway,
// what processes use of the machine, and the figures' way into a file.
package measure
