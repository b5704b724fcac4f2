// Package soak has everything happen at once, for as long as it is told, and wants
// nothing to have grown at the end: `make soak`.
package soak
