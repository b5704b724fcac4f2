// Package revocation takes access away in every way there is, and wants tokens, calls in
// flight and open streams to end in time; and tokens that are rotated to overlap.
package revocation
