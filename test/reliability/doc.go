// Package reliability makes parts of the system fail, with real processes, and observes the
// clients meanwhile. docs/reliability.md has the promises.
package reliability
