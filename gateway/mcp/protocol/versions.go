package protocol

import (
	"net/http"
	"slices"
)

// VersionStateless is the first protocol version without sessions, whose
// requests repeat in HTTP headers what they say in the body. Versions are dates
// and compare as strings.
const VersionStateless = "2026-07-28"

// LatestSessionVersion is the last protocol version with sessions.
const LatestSessionVersion = "2025-11-25"

// SessionVersions are the protocol versions with sessions, newest first. They must
// not be changed.
var SessionVersions = []string{LatestSessionVersion, "2025-06-18", "2025-03-26", "2024-11-05"}

// IsSessionVersion reports whether the version is one of [SessionVersions].
func IsSessionVersion(version string) bool { return slices.Contains(SessionVersions, version) }

// SpeaksSessions reports whether a request with that header may be of a version with
// sessions. The first of these has no header for the version.
func SpeaksSessions(h http.Header) bool {
	version := First(h, HeaderVersion)
	return version == "" || IsSessionVersion(version)
}

// IsStateless reports whether the version is one without sessions. It is false for
// what is not a date: what such a version means is for the server to say.
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
