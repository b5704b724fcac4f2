package protocol

import (
	"net/http"
	"slices"
)

// VersionStateless is the first protocol version without sessions. Its requests repeat
// parts of the body in HTTP headers. Versions are dates and compare as strings.
const VersionStateless = "2026-07-28"

// LatestSessionVersion is the last protocol version with sessions.
const LatestSessionVersion = "2025-11-25"

// SessionVersions are the protocol versions with sessions, newest first. Do not change
// the slice.
var SessionVersions = []string{LatestSessionVersion, "2025-06-18", "2025-03-26", "2024-11-05"}

// IsSessionVersion reports whether the version is one of [SessionVersions].
func IsSessionVersion(version string) bool { return slices.Contains(SessionVersions, version) }

// SpeaksSessions reports whether a request with that header may be of the session era,
// whose first version has no header for the version.
func SpeaksSessions(h http.Header) bool {
	version := First(h, HeaderVersion)
	return version == "" || IsSessionVersion(version)
}

// IsStateless reports whether the version is of the stateless era. It is false for a
// version that is not a date: only the server knows what that means.
func IsStateless(version string) bool {
	return IsVersion(version) && version >= VersionStateless
}

// IsVersion reports whether the text has the form of a protocol version: a date.
func IsVersion(text string) bool {
	if len(text) != len(VersionStateless) {
		return false
	}
	for i := range len(text) {
		if dash := i == 4 || i == 7; dash != (text[i] == '-') || !dash && (text[i] < '0' || text[i] > '9') {
			return false
		}
	}
	return true
}
