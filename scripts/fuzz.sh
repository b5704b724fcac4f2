#!/usr/bin/env bash
# Runs the fuzz targets of this repository: every function Fuzz… of its tests.
#
#   scripts/fuzz.sh run ./...         each for FUZZ_TIME (1m), one after the other, with a line of what
#                                     it did. Coverage guides Go's fuzzer; it starts where it ended.
#   scripts/fuzz.sh some BINARY …     for `go test -exec`: the tests of a package, and then each of its
#                                     targets with FUZZ_SOME mutations of its seeds. The binary is that of
#                                     the tests, without instrumentation: so nothing guides the fuzzer, and
#                                     nothing is built.
#
# An input that fails is kept in the testdata of its package, and is a test from then on.
set -uo pipefail

# targets names those of the package here, which BINARY is built from.
targets() {
	grep -qs '^func Fuzz' ./*_test.go || return 0
	"$1" -test.list '^Fuzz' | grep '^Fuzz'
}

# fuzz BINARY TARGET FLAG… runs one target. The fuzzer may not try long to shorten an input that
# reaches something new: it looks for no other meanwhile.
fuzz() {
	local binary=$1 target=$2
	shift 2
	"$binary" -test.run='^$' -test.fuzz="^$target\$" -test.fuzzminimizetime=100x "$@" </dev/null 2>&1
}

# ended OUTPUT tells a failure that is none: Go's fuzzer reports the end of its time as one if a worker
# is still busy.
ended() { [[ $1 == *"context deadline exceeded"* && $1 != *"Failing input"* && $1 != *panic* ]]; }

some() {
	"$@" || exit
	local binary=$1 cache target out
	cache=$(mktemp -d)
	for target in $(targets "$binary"); do
		if ! out=$(fuzz "$binary" "$target" -test.fuzztime="${FUZZ_SOME}x" -test.fuzzcachedir="$cache" -test.parallel=1 -test.timeout=5m); then
			printf '%s\n' "$out"
			rm -rf "$cache"
			exit 1
		fi
	done
	rm -rf "$cache"
}

run() {
	local cache work status=0 folder package binary target out
	cache=$(go env GOCACHE)/fuzz
	work=$(mktemp -d)
	trap "rm -rf '$work'" EXIT
	while read -r package folder; do
		grep -qs '^func Fuzz' "$folder"/*_test.go || continue
		binary=$work/test
		go test -c -fuzz=. -o "$binary" "$package" || exit
		cd "$folder" || exit
		for target in $(targets "$binary"); do
			if out=$(fuzz "$binary" "$target" -test.fuzztime="${FUZZ_TIME:-1m}" -test.fuzzcachedir="$cache/$package") || ended "$out"; then
				printf '%s\n' "$out" | grep 'execs:' | tail -n 1 | sed -E \
					"s,.*execs: ([0-9]+).*new interesting: ([0-9]+) \(total: ([0-9]+)\).*,\1 \2 \3," |
					while read -r executions new total; do
						printf '%12d executions, %4d new interesting inputs of %5d: %s %s\n' "$executions" "$new" "$total" "${package#*/}" "$target"
					done
			else
				status=1
				printf '%s\nFAILED: %s %s\n' "$out" "$package" "$target"
			fi
		done
	done < <(go list -f '{{.ImportPath}} {{.Dir}}' "$@")
	return "$status"
}

case ${1:-} in
run | some) "$@" ;;
*)
	echo "usage: scripts/fuzz.sh run PACKAGE… | some BINARY ARGUMENT…" >&2
	exit 2
	;;
esac
