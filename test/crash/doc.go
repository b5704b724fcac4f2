// Package crash kills Vault and the engine in the middle of their work.
package crash
