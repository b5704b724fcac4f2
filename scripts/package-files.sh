#!/usr/bin/env bash
# Lays out what a package holds beside its programs: docs, and every file that they
# link to.
#
#   scripts/package-files.sh FOLDER
set -euo pipefail

root=${1:?usage: scripts/package-files.sh FOLDER}
mkdir -p "$root"
root=$(cd "$root" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cp README.md LICENSE CHANGELOG.md CONTRIBUTING.md SECURITY.md CODE_OF_CONDUCT.md "$root"
cp -r docs "$root/docs"
mkdir -p "$root/bootstrap" "$root/gateway/config"
cp -r bootstrap/agent bootstrap/deploy bootstrap/examples bootstrap/policies "$root/bootstrap"
rm -f "$root"/bootstrap/*/*.go
cp gateway/config/example.hcl gateway/config/smallest.hcl "$root/gateway/config"
# What is installed as the gateway's file, and what shows every setting.
cp gateway/config/smallest.hcl "$root/gateway.hcl"
cp gateway/config/example.hcl "$root/gateway.reference.hcl"
chmod -R u=rwX,go=rX "$root"
