// Package pins tests pins with a server that is hostile: it shows what was approved, and then
// something else, to whom and whenever it likes.
package pins
