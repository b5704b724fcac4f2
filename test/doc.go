// Package test holds the black-box tests: what users and operators see of the
// system as a whole, with nothing in it replaced.
package test
