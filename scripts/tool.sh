#!/usr/bin/env bash
# Prints the path of a tool's binary, and builds it first where it is missing.
#
#   scripts/tool.sh vault        the Vault server: one on the PATH, else built
#   scripts/tool.sh vault-full   the same with every engine, such as database: one on
#                                the PATH that is not a minimal one, else built
#   scripts/tool.sh vault@v1.18.0  that version of the Vault server, always built
#   scripts/tool.sh openldap     Vault's engine for LDAP as a plugin of its own, always built
#   scripts/tool.sh lint         golangci-lint, always built
#   scripts/tool.sh actionlint   the linter of CI's workflows, always built
#
# Each tool has a module of its own, scripts/<name>/, whose `tool` line names
# the program. The binary lies under .cache/tools, keyed by everything that goes
# into it, and is built again only when that changes; .cache/<name> links to it.
# Progress goes to stderr, so that the path is all there is on stdout.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=${1:?usage: scripts/tool.sh vault|vault-full|vault@VERSION|openldap|lint|actionlint}
tools=$root/.cache/tools
folder=$root/scripts/$name # of the module
program= # of the module; "": the one of its tool line

# A tool is built the same way whatever the caller's settings for the project are.
unset GOFLAGS GOOS GOARCH
export CGO_ENABLED=0

case $name in
vault)
	if on_path=$(command -v vault) && [[ $("$on_path" version 2>/dev/null) == "Vault v"* ]]; then
		echo "$on_path"
		exit 0
	fi
	# `minimal` leaves out the cloud plugins, which are most of Vault's build.
	flags=(-tags minimal)
	cost="2 to 6 minutes on two cores"
	;;
vault-full)
	# A minimal Vault says nothing of what it is, but does not know the engine's name.
	if on_path=$(command -v vault) && grep -q 'postgresql-database-plugin' "$on_path"; then
		echo "$on_path"
		exit 0
	fi
	folder=$root/scripts/vault
	flags=()
	cost="10 to 20 minutes on two cores"
	;;
vault@v*)
	folder=$tools/$name.module
	flags=(-tags minimal)
	cost="3 to 10 minutes on two cores"
	;;
openldap)
	folder=$root/scripts/vault
	program=github.com/hashicorp/vault-plugin-secrets-openldap/cmd/vault-plugin-secrets-openldap
	flags=()
	cost="1 to 3 minutes on two cores"
	;;
lint)
	flags=()
	cost="1 to 4 minutes on two cores"
	;;
actionlint)
	flags=()
	cost="some seconds"
	;;
*)
	echo "tool.sh: \"$name\" is not a tool of this project: vault, vault-full, vault@VERSION, openldap, lint or actionlint" >&2
	exit 2
	;;
esac
flags+=(-trimpath -buildvcs=false -ldflags "-s -w")

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }

# other_vault writes the module of a Vault whose version is not that of scripts/vault. A module that
# depends on Vault does not inherit what Vault replaces: its own ./sdk, here by the version that
# belongs to it, and others.
other_vault() {
	local vault=github.com/hashicorp/vault version=${name#vault@} file left right
	mkdir -p "$folder"
	cd "$folder"
	rm -f go.mod
	go mod init vault-plugin-secrets-mcp/other-vault 2>/dev/null
	file=$(go list -m -f '{{.GoMod}}' "$vault@$version")
	go mod edit -go="$(cd "$root" && go list -m -f '{{.GoVersion}}')" -tool="$vault" -require="$vault@$version" \
		-replace="$vault/sdk=$vault/sdk@$(awk -v sdk="$vault/sdk" '$1 == sdk { print $2; exit }' "$file")"
	# Vault 1.12 needs what its own ./api has, and its go.mod names an older one. It also reads a
	# certificate when it starts whose serial number is negative, which Go refuses since 1.23.
	[[ $version != v1.12.* ]] || go mod edit -require="$vault/api@v1.8.1" -godebug=x509negativeserial=1
	while read -r left right; do
		if go mod download "$right" 2>/dev/null; then
			go mod edit -replace="$left=$right"
		else
			echo "tool.sh: Go cannot get or verify $right, which Vault $version puts in place of $left: this build has the latter" >&2
		fi
	done < <(awk '$1 == "replace" && !/=> \.\// { split($0, side, / => /); sub(/^replace /, "", side[1])
		gsub(/ /, "@", side[1]); gsub(/ /, "@", side[2]); print side[1], side[2] }' "$file")
}
if [[ $name == vault@* ]]; then
	export GOFLAGS=-mod=mod # Go completes this module while it builds
	other_vault
fi

cd "$folder"
key=$({
	cat go.mod $([[ $name == vault@* ]] || echo go.sum)
	go env GOVERSION GOHOSTOS GOHOSTARCH
	echo "${flags[@]}"
} | sha256 | cut -c1-12)
binary=$tools/$name-$key

build() {
	local package log version started pid last=0 now
	package=${program:-$(awk '$1 == "tool" { print $2; exit }' go.mod)}
	version=$(go list -f '{{with .Module}}{{.Path}} {{.Version}}{{end}}' "$package")
	log=$tools/$name.log
	echo "Building $version from its Go module: $cost with a cold cache, once. Log: ${log#"$root"/}" >&2

	started=$SECONDS
	go build -v "${flags[@]}" -o "$binary.new" "$package" >"$log" 2>&1 &
	pid=$!
	trap "kill $pid 2>/dev/null; rm -f '$binary.new'" EXIT
	while kill -0 "$pid" 2>/dev/null; do
		sleep 1
		now=$((SECONDS - started))
		if ((now >= last + 15)); then
			last=$now
			echo "  ${now} s: $(grep -c '^go: downloading' "$log") modules downloaded," \
				"$(grep -vc '^go: ' "$log") packages compiled" >&2
		fi
	done
	if ! wait "$pid"; then
		tail -n 20 "$log" >&2
		echo "tool.sh: $package did not build; its output is in $log" >&2
		return 1
	fi
	trap - EXIT
	find "$tools" -maxdepth 1 -name "$name-????????????" -exec rm -f {} +
	mv "$binary.new" "$binary"
	echo "  built in $((SECONDS - started)) s" >&2
}

if [[ ! -x $binary ]]; then
	mkdir -p "$tools"
	# Two callers at once build once, where the machine has flock.
	if command -v flock >/dev/null; then
		exec 9>"$tools/$name.lock"
		flock 9
	fi
	if [[ ! -x $binary ]]; then build; fi
fi
ln -sfn "tools/$name-$key" "$root/.cache/$name"
echo "$root/.cache/$name"
