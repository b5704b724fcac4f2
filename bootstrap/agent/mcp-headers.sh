#!/bin/sh
# Prints the headers of an MCP connection, with the token that Vault Agent keeps in
# a file. For Claude Code: "headersHelper": "/usr/local/bin/mcp-headers.sh".
#
# The file's path is an argument and not a variable, since Claude Code hides variables
# with TOKEN in their names from the helpers of projects.
set -eu
file=${1:-/run/mcp-client/token}
token=$(cat "$file") || {
	echo "mcp-headers: cannot read $file: does Vault Agent run, and may $(id -un) read the file?" >&2
	exit 1
}
case $token in
'' | *[!A-Za-z0-9._~+/=-]*)
	echo "mcp-headers: $file holds no token: see the log of Vault Agent" >&2
	exit 1
	;;
esac
printf '{"Authorization": "Bearer %s"}\n' "$token"
