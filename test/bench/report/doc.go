// Package report has the figures of the benchmarks in the form in which they are stored, in
// docs/performance, and makes of them the tables and the pictures of docs/performance.md. It
// measures nothing: `make plot` makes all of it again from the stored figures alone.
package report
