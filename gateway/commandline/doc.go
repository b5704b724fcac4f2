// Package commandline has the parts that all commands of a program share. A program is one
// table of commands with their flags. The reading of arguments, the help, completion in
// three shells and the manual page all come from the table, so they cannot differ.
//
// Flags are those of Go's package flag, which Vault's own command line uses: -flag and
// --flag are one, and so are -flag=value and -flag value.
package commandline
