// Package packaging tests what `make package` makes. It builds every program
// twice, so it runs by itself alone: make test-package.
package packaging
