// Package commandline has what every command of a program has in common. A program is one
// table of commands with their flags. From the table come the reading of arguments, the
// help, completion in three shells, and the manual page, so that none of them can lack what
// another has.
//
// Flags are those of Go's package flag, which Vault's own command line uses: -flag and
// --flag are one, and so are -flag=value and -flag value.
package commandline
