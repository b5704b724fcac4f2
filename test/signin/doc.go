// Package signin tests sign-in from outside: a real Vault and real gateways, with browsers and
// applications of raw HTTP.
package signin
