#!/usr/bin/env bash
# Runs `go test`, and passes on what it prints. While it prints nothing, it says every
# half minute, on standard error, for how long it has run and of which packages there is
# no result yet.
#
#   scripts/test.sh -race ./backend/... ./gateway/...
#
# TEST_SILENCE=SECONDS is another time than half a minute. TEST_TIMES=FILE gets a line
# with the seconds that each package took.
set -euo pipefail

# A program with the race detector sleeps for a second before it ends with status 0, so
# that its goroutines can still report races. 50 ms are enough: hundreds of programs end.
export GORACE="atexit_sleep_ms=50 ${GORACE:-}"

silence=${TEST_SILENCE:-30}
patterns=()
for argument in "$@"; do
	case $argument in
	./* | vault-plugin-secrets-mcp | vault-plugin-secrets-mcp/*) patterns+=("$argument") ;;
	esac
done
declare -A waiting=()
total=0
for package in $(go list "${patterns[@]}"); do
	waiting[$package]=1
	total=$((total + 1))
done

# told takes note of a package's result.
told() {
	local kind package took
	IFS=$'\t ' read -r kind package took _ <<<"$1"
	case $kind in
	ok | FAIL | '?') [[ -z $package ]] || unset "waiting[$package]" ;;
	*) return 0 ;;
	esac
	if [[ -n ${TEST_TIMES:-} && $took == *.*s ]]; then
		printf '%6d s  %s\n' "${took%.*}" "${package##*secrets-mcp/}" >>"$TEST_TIMES"
	fi
}

# tell says that the tests still run.
tell() {
	local names=("${!waiting[@]}") shown
	mapfile -t names < <(printf '%s\n' "${names[@]##*secrets-mcp/}" | sort)
	shown=${names[*]:0:4}
	((${#names[@]} <= 4)) || shown+=" and $((${#names[@]} - 4)) more"
	echo "  $SECONDS s: $((total - ${#waiting[@]})) of $total packages have a result; not yet: $shown …" >&2
}

pass() {
	local line rest='' status
	while true; do
		status=0
		IFS= read -r -t "$silence" line || status=$?
		if ((status == 0)); then
			printf '%s\n' "$rest$line"
			told "$rest$line"
			rest=''
		elif ((status > 128)); then # nothing, or a part of a line
			rest+=$line
			tell
		else
			printf '%s' "$rest$line"
			return
		fi
	done
}

SECONDS=0
go test "$@" | pass
