// Package manifests tests the files in bootstrap/deploy: Kubernetes manifests
// against Kubernetes' own types and the operators' published schemas, the
// Dockerfile with BuildKit's parser, the units of systemd, and the rules and the dashboard for
// Prometheus's metrics. It also tests the files for the repository's host: its forms, and the
// settings of its dependency bot.
//
// It is a module of its own, so that its dependencies never touch the programs. There is
// no cluster and no Docker here: nothing is applied or built.
package manifests
