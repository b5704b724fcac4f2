// Package pins tests pins with a server that is hostile: it shows the approved texts, and then
// something else, to whom and whenever it likes.
package pins
