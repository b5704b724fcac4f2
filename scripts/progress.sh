#!/usr/bin/env bash
# Runs a command under a name, and says every five seconds that it still runs.
#
#   scripts/progress.sh "Building x" go build ./x
set -euo pipefail

echo "$1" >&2
shift
"$@" &
pid=$!
trap 'kill "$pid" 2>/dev/null || true' EXIT
seconds=0
while kill -0 "$pid" 2>/dev/null; do
	sleep 0.2
	if ((SECONDS >= seconds + 5)); then
		seconds=$SECONDS
		echo "  $seconds s …" >&2
	fi
done
wait "$pid" && status=0 || status=$?
trap - EXIT
exit "$status"
