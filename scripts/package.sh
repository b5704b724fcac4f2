#!/usr/bin/env bash
# Packs the three programs for other machines, linked statically.
#
#   scripts/package.sh VERSION DIR OS/ARCH...
#
# Writes DIR/vault-plugin-secrets-mcp_VERSION_OS_ARCH.tar.gz for each platform, and
# DIR/SHA256SUMS. The same sources, version and Go give the same bytes, so that
# anybody can check what somebody else has built.
set -euo pipefail

version=${1:?usage: scripts/package.sh VERSION DIR OS/ARCH...}
dir=${2:?usage: scripts/package.sh VERSION DIR OS/ARCH...}
shift 2
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || {
	echo "package.sh: \"$version\" is not a version: Vault wants one like v1.2.3" >&2
	exit 2
}
(($# > 0)) || set -- linux/amd64 linux/arm64

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

export CGO_ENABLED=0
ldflags="-s -w -X vault-plugin-secrets-mcp/backend/version.number=$version"
for platform in "$@"; do
	name=vault-plugin-secrets-mcp_${version}_${platform/\//_}
	root=$stage/$name
	mkdir -p "$root"
	for program in vault-plugin-secrets-mcp:plugin mcp-gateway:gateway mcp-bootstrap:bootstrap; do
		GOOS=${platform%/*} GOARCH=${platform#*/} scripts/progress.sh "Building ${program%:*} for $platform" \
			go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$root/${program%:*}" "./${program#*:}"
	done
	# Vault's catalog wants the plugin's digest.
	(cd "$root" && sha256sum vault-plugin-secrets-mcp >vault-plugin-secrets-mcp.sha256)
	scripts/package-files.sh "$root"
	tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$stage" -cf - "$name" | gzip -n >"$dir/$name.tar.gz"
	rm -rf "$root"
done
cd "$dir"
sha256sum -- *.tar.gz >SHA256SUMS
echo "Packed into $dir:" >&2
cat SHA256SUMS >&2
