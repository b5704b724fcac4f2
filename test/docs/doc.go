// Package docs runs the commands of the pages in docs/ as they are written, and compares
// what the pages list with what the programs have. Pages that need something of another
// folder beside them are run there: test/dev, test/agent, test/apply.
package docs
