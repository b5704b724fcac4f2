#!/usr/bin/env bash
# Installs from npm what a folder's package-lock.json pins, and prints where.
#
#   scripts/npm.sh test/clients
#   scripts/npm.sh test/clients latest   the newest that npm has of each instead, installed again each time
#
# What it prints is keyed by the two files, and made once: node_modules/, and
# node, a Node that runs all of it. That is the one in the lock file, where npm
# has it for this machine, else the machine's own. No package's own scripts run.
# Progress goes to stderr, so that the path is all there is on stdout.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
from=$root/${1:?usage: scripts/npm.sh FOLDER [latest]}
oldest_node=24

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }

name=$(basename "$from")
key=$(cat "$from/package.json" "$from/package-lock.json" | sha256 | cut -c1-12)
cache=$root/.cache/npm
installed=$cache/$name-$key

# major prints a Node's major version.
major() { "$1" --version 2>/dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p'; }

link_node() {
	local pinned path
	for pinned in "$1"/node_modules/node-*/bin/node; do
		if [[ -n $(major "$pinned") ]]; then
			ln -s "${pinned#"$1"/}" "$1/node"
			return
		fi
	done
	if path=$(command -v node) && (($(major "$path") >= oldest_node)); then
		ln -s "$path" "$1/node"
		return
	fi
	echo "npm.sh: npm has no Node for this machine, and there is none on the PATH: install Node $oldest_node or newer" >&2
	return 1
}

install() {
	local started=$SECONDS new=$installed.new
	if ! command -v npm >/dev/null; then
		echo "npm.sh: $1 needs npm to install its tools, and there is none on the PATH:" \
			"install Node.js with npm (Debian: apt-get install --no-install-recommends npm)" >&2
		return 1
	fi
	echo "Installing what $1 uses from npm, once" >&2
	rm -rf "$new"
	mkdir -p "$new"
	cp "$from/package.json" "$from/package-lock.json" "$new"
	if ! (cd "$new" && npm "${npm[@]}" --ignore-scripts --no-audit --no-fund --loglevel=error >npm.log 2>&1); then
		tail -n 20 "$new/npm.log" >&2
		echo "npm.sh: npm could not install what $1 uses" >&2
		return 1
	fi
	link_node "$new"
	find "$cache" -maxdepth 1 -name "$name-*" ! -name "*.new" -exec rm -rf {} +
	mv "$new" "$installed"
	echo "  installed in $((SECONDS - started)) s" >&2
}

npm=(ci)
if [[ ${2:-} == latest ]]; then
	# Those that are pinned on purpose are under a name of their own ("npm:…").
	mapfile -t newest < <(sed -n '/"dependencies"/,/}/ { /"npm:/d; s/^ *"\(.*\)": ".*/\1@latest/p; }' "$from/package.json")
	npm=(install "${newest[@]}")
	name=latest-$name
	installed=$cache/$name-$key
	rm -rf "$installed"
fi

if [[ ! -d $installed ]]; then
	mkdir -p "$cache"
	# Two callers at once install once, where the machine has flock.
	if command -v flock >/dev/null; then
		exec 9>"$cache/$name.lock"
		flock 9
	fi
	if [[ ! -d $installed ]]; then install "$1"; fi
fi
echo "$installed"
