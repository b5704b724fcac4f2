// Package proxy measures the gateway beside a plain reverse proxy and beside no
// proxy at all, with real processes over the loopback: `make bench-proxy`. It also
// measures requests with leased credentials beside those without: `make bench-credentials`.
package proxy
