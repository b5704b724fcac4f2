// Package revocation takes access away in every possible way. Tokens, calls in flight and
// open streams must end in time, and rotated tokens must overlap.
package revocation
