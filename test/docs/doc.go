// Package docs runs the commands of the pages in docs/, and compares the pages' tables with
// the programs. Pages that need the set-up of another folder run there: test/dev,
// test/agent, test/apply.
package docs
