// Package audit examines the audit lines, logs, traces, metrics and storage of the system,
// and looks for tokens in all of them.
package audit
