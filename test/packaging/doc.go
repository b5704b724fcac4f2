// Package packaging tests the packages of `make package`. It builds every program twice, so
// it runs alone: make test-package.
package packaging
