package test

import "testing"

// TestDocsAggregate runs the commands of docs/aggregate.md as written.
func TestDocsAggregate(t *testing.T) { runDevPage(t, "aggregate.md") }
