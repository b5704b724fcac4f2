#!/usr/bin/env bash
# Lays out the pages of the manual, and what makes shells complete commands and flags, for a
# package. The programs themselves print both, from the definitions of their commands, in the
# same way on every machine.
#
#   scripts/man.sh DIR            builds the programs for this machine first
#   scripts/man.sh DIR PROGRAMS   takes those of a folder
#
#   DIR/man1/NAME.1                             /usr/share/man/man1
#   DIR/bash-completion/completions/NAME        /usr/share/bash-completion/completions
#   DIR/zsh/vendor-completions/_NAME            /usr/share/zsh/vendor-completions
#   DIR/fish/vendor_completions.d/NAME.fish     /usr/share/fish/vendor_completions.d
set -euo pipefail

dir=${1:?usage: scripts/man.sh DIR [PROGRAMS]}
mkdir -p "$dir"/{man1,bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
dir=$(cd "$dir" && pwd)
programs=${2:-}
if [[ -z $programs ]]; then
	cd "$(dirname "${BASH_SOURCE[0]}")/.."
	programs=$(mktemp -d)
	trap 'rm -rf "$programs"' EXIT
	# Not for the platform of the package, which may be another one.
	GOOS='' GOARCH='' GOFLAGS=-mod=readonly CGO_ENABLED=0 scripts/progress.sh "Building the programs for their manual" \
		go build -trimpath -buildvcs=false -o "$programs" ./gateway/cmd/mcp-gateway ./bootstrap/cmd/mcp-bootstrap
fi
for name in mcp-bootstrap mcp-gateway; do
	program=$programs/$name
	"$program" man >"$dir/man1/$name.1"
	"$program" completion bash >"$dir/bash-completion/completions/$name"
	"$program" completion zsh >"$dir/zsh/vendor-completions/_$name"
	"$program" completion fish >"$dir/fish/vendor_completions.d/$name.fish"
done
