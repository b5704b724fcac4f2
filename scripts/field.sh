#!/usr/bin/env bash
# What test/field, test/partition, test/browser, test/upgrade, test/model, test/commands and test/upstream
# need of the machine, besides Go.
#
#   scripts/field.sh missing            names each part that is not there, a line for each
#   scripts/field.sh install            installs all of them, on Debian, as root
#   scripts/field.sh missing network    the same for test/partition: machines of a network
#   scripts/field.sh install network
#   scripts/field.sh missing slow       the same for its row about a slow way to Vault
#   scripts/field.sh missing browser    the same for test/browser: a browser
#   scripts/field.sh install browser
#   scripts/field.sh missing model      the same for test/model: spin, which checks models
#   scripts/field.sh install model
#   scripts/field.sh missing shells     the same for test/commands: shells, and what reads manuals
#   scripts/field.sh install shells
#   scripts/field.sh missing released   the same for test/upgrade: the commit of v0.1.0
#   scripts/field.sh missing upstream   the same for test/upstream: the servers for which
#   scripts/field.sh install upstream   credentials are leased in `make test-upstream`
#
# Nothing that is installed starts: the tests run programs of their own, in network
# namespaces or data folders of their own.
set -euo pipefail

# Debian keeps what administrators run in these folders, off the PATH of others.
PATH=$PATH:/usr/sbin:/sbin
for folder in /usr/lib/postgresql/*/bin; do PATH=$PATH:$folder; done

# A program, or a pattern of files, and Debian's package with it.
what=${2:-field}
case $what in
field) parts="nginx:nginx haproxy:haproxy nft:nftables ip:iproute2 npm:npm tinyproxy:tinyproxy prometheus:prometheus rsyslogd:rsyslog /usr/lib/*/rsyslog/lmnsd_ossl.so:rsyslog-openssl" ;;
network) parts="nft:nftables ip:iproute2 tc:iproute2" ;;
slow) parts="ip:iproute2 tc:iproute2" ;;
browser) parts="chromium:chromium npm:npm" ;;
released) parts="git:git" ;;
model) parts="spin:spin cc:gcc patch:patch" ;;
shells) parts="bash:bash zsh:zsh fish:fish groff:groff-base man:man-db" ;;
upstream) parts="postgres:postgresql initdb:postgresql psql:postgresql-client slapd:slapd slapadd:slapd ldapwhoami:ldap-utils setpriv:util-linux" ;;
*) parts="" ;;
esac

# has tells whether there is such a program, or such a file.
has() { command -v "$1" >/dev/null || compgen -G "$1" >/dev/null; }

missing() {
	local part
	for part in $parts; do
		has "${part%:*}" || echo "${part%:*} (Debian: apt-get install ${part#*:})"
	done
	if [[ $what == released ]] && has git && ! git cat-file -e "$(released)^{commit}" 2>/dev/null; then
		echo "the commit of v0.1.0 (git fetch --unshallow)"
	fi
	# With a loopback that is up, and an nftables that takes a table, the rest works.
	if [[ $parts == *nft* ]] && ! namespaces nft add table inet probe >/dev/null 2>&1 && command -v nft >/dev/null; then
		echo "network namespaces with nftables (run the tests as root, or allow user namespaces)"
	fi
	if [[ $what == slow ]] && has tc && ! namespaces sh -c 'ip link add probe type veth && tc qdisc add dev probe root tbf rate 1mbit burst 1600 limit 100000' >/dev/null 2>&1; then
		echo "tbf (a part of the kernel: CONFIG_NET_SCH_TBF)"
	fi
}

# released is the commit of v0.1.0.
released() { sed -n 's/^const v010 = "\(.*\)"$/\1/p' "$(dirname "${BASH_SOURCE[0]}")/../test/upgrade/released_test.go"; }

# namespaces runs a command in a network namespace of its own.
namespaces() {
	if ((EUID == 0)); then unshare --net --mount "$@"; else unshare --map-root-user --net --mount "$@"; fi
}

install() {
	local part wanted=() policy=/usr/sbin/policy-rc.d
	for part in $parts; do
		has "${part%:*}" || [[ " ${wanted[*]} " == *" ${part#*:} "* ]] || wanted+=("${part#*:}")
	done
	if ((${#wanted[@]} == 0)); then return; fi
	if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
		echo "field.sh: only root on Debian can install ${wanted[*]} by this script" >&2
		return 1
	fi
	# invoke-rc.d asks this program whether a service may be started. See its manual.
	if [[ ! -e $policy ]]; then
		trap 'rm -f '"$policy" EXIT
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod 755 $policy
	fi
	apt-get -qq update
	DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${wanted[@]}" >/dev/null
}

case ${1:-}:$parts in
missing:?* | install:?*) "$1" ;;
*)
	echo "usage: scripts/field.sh missing|install [field|network|slow|browser|model|shells|upstream]" >&2
	exit 2
	;;
esac
