// Package pages compares docs/ with the source: every test, function, file and package that a
// page names exists, the map of the source has every package, and no file uses a word that
// docs/glossary.md has retired. It only reads files, so `make lint` runs it.
package pages
