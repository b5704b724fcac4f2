// Package reliability holds the tests that have parts of the system fail, real
// processes all of them, and watch what clients see meanwhile: docs/reliability.md
// has the promises.
package reliability
