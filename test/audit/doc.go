// Package audit looks at what the system tells of itself (audit lines, logs, traces,
// metrics) and stores, and for tokens in any of it.
package audit
