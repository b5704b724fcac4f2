package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers the format
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// scripts are run by the package managers. They start nothing: the gateway needs Vault's address
// and a login first.
var scripts = map[string]string{
	"postinstall": `#!/bin/sh
set -e
if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers mcp-gateway.conf
elif ! getent passwd mcp-gateway >/dev/null; then
	useradd --system --user-group --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin mcp-gateway
fi
# The package lays down its files as root's. Modes stay, and so does what somebody has removed, linked
# elsewhere or given to another group.
for path in /etc/mcp-gateway /etc/mcp-gateway/gateway.hcl; do
	if [ -e "$path" ] && [ "$(stat -c %G "$path")" = root ]; then
		chgrp -h mcp-gateway "$path"
	fi
done
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	systemctl try-restart mcp-gateway.service || # only where it runs: an update
		echo "mcp-gateway is installed, but did not start again: see journalctl -u mcp-gateway" >&2
fi
`,
	"preremove": `#!/bin/sh
set -e
case "$1" in
upgrade | 1) exit 0 ;; # the next version restarts it
esac
if [ -d /run/systemd/system ]; then
	systemctl disable --now mcp-gateway.service || true
fi
`,
	"postremove": `#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
`,
}

// packages writes the package for Debian and the one for Red Hat.
func (r *release) packages(ctx context.Context, p platform) error {
	folder := filepath.Join(r.stage, "package-"+p.arch)
	contents, err := r.layOut(ctx, p, folder)
	if err != nil {
		return err
	}
	paths := map[string]string{}
	for name, text := range scripts {
		paths[name] = filepath.Join(folder, name)
		if err := os.WriteFile(paths[name], []byte(text), 0o755); err != nil {
			return err
		}
	}
	for _, format := range []string{"deb", "rpm"} {
		info := nfpm.WithDefaults(&nfpm.Info{
			Name: "mcp-gateway", Arch: p.arch, Platform: "linux", Version: r.plain(), Release: "1",
			Section: "net", Priority: "optional", License: "MPL-2.0", MTime: r.date,
			Maintainer:  "The authors of vault-plugin-secrets-mcp",
			Description: "Gateway for MCP clients, with tokens that Vault issues\nThe gateway, mcp-bootstrap, and the plugin for Vault's servers in /usr/libexec/mcp-gateway.",
			Overridables: nfpm.Overridables{
				Contents: contents,
				Scripts:  nfpm.Scripts{PostInstall: paths["postinstall"], PreRemove: paths["preremove"], PostRemove: paths["postremove"]},
				RPM:      nfpm.RPM{BuildHost: "localhost", Summary: "Gateway for MCP clients, with tokens that Vault issues"},
			},
		})
		if err := r.pack(info, format); err != nil {
			return fmt.Errorf("%s: %w", format, err)
		}
	}
	return nil
}

func (r *release) pack(info *nfpm.Info, format string) (err error) {
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return err
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(r.out, packager.ConventionalFileName(info)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return packager.Package(info, f)
}

// layOut returns what goes into a package, and makes in folder what is not among the sources as it
// is: docs/operations.md installs the same files by hand, below /usr/local.
func (r *release) layOut(ctx context.Context, p platform, folder string) (files.Contents, error) {
	const doc = "/usr/share/doc/mcp-gateway"
	if err := r.documents(ctx, filepath.Join(folder, "doc")); err != nil {
		return nil, err
	}
	unit, err := os.ReadFile(filepath.Join(r.root, "bootstrap/deploy/systemd/mcp-gateway.service"))
	if err != nil {
		return nil, err
	}
	service := filepath.Join(folder, "mcp-gateway.service")
	if err := os.WriteFile(service, bytes.ReplaceAll(unit, []byte("/usr/local/"), []byte("/usr/")), 0o644); err != nil {
		return nil, err
	}
	systemd := filepath.Join(r.root, "bootstrap/deploy/systemd")
	file := func(from, to string, mode os.FileMode) *files.Content {
		return &files.Content{Source: from, Destination: to, FileInfo: &files.ContentFileInfo{Mode: mode, MTime: r.date, Owner: "root", Group: "root"}}
	}
	configuration := func(from, to string, mode os.FileMode) *files.Content {
		c := file(from, to, mode)
		c.Type = files.TypeConfigNoReplace // an update keeps what somebody has changed
		return c
	}
	contents := files.Contents{
		file(filepath.Join(p.programs, "mcp-gateway"), "/usr/bin/mcp-gateway", 0o755),
		file(filepath.Join(p.programs, "mcp-bootstrap"), "/usr/bin/mcp-bootstrap", 0o755),
		file(filepath.Join(p.programs, plugin), "/usr/libexec/mcp-gateway/"+plugin, 0o755),
		file(service, "/usr/lib/systemd/system/mcp-gateway.service", 0o644),
		file(filepath.Join(systemd, "mcp-gateway.sysusers"), "/usr/lib/sysusers.d/mcp-gateway.conf", 0o644),
		configuration(filepath.Join(systemd, "mcp-gateway.logrotate"), "/etc/logrotate.d/mcp-gateway", 0o644),
		{Destination: "/etc/mcp-gateway", Type: files.TypeDir, FileInfo: &files.ContentFileInfo{Mode: 0o750, MTime: r.date, Owner: "root", Group: "root"}},
		configuration(filepath.Join(folder, "doc", "gateway.hcl"), "/etc/mcp-gateway/gateway.hcl", 0o640),
		file(filepath.Join(r.root, "LICENSE"), doc+"/copyright", 0o644),
		{Source: filepath.Join(folder, "doc"), Destination: doc, Type: files.TypeTree, FileInfo: &files.ContentFileInfo{MTime: r.date, Owner: "root", Group: "root"}},
	}
	shared, err := r.shared(folder)
	if err != nil {
		return nil, err
	}
	for _, to := range slices.Sorted(maps.Keys(shared)) {
		contents = append(contents, file(shared[to], "/usr/share/"+to, 0o644))
		if name, ok := strings.CutPrefix(to, "zsh/vendor-completions/"); ok { // Debian's folder
			contents[len(contents)-1].Packager = "deb"
			contents = append(contents, file(shared[to], "/usr/share/zsh/site-functions/"+name, 0o644))
			contents[len(contents)-1].Packager = "rpm"
		}
	}
	return contents, r.stamp(folder)
}

// stamp gives all files of a folder the commit's time: a tree in a package has its files' own.
func (r *release) stamp(folder string) error {
	return filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, r.date, r.date)
	})
}

// shared returns the manual and the completion of command lines, by their paths below /usr/share.
func (r *release) shared(folder string) (map[string]string, error) {
	shared := map[string]string{}
	err := filepath.Walk(r.share(), func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		inside, err := filepath.Rel(r.share(), path)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(inside, "man") {
			shared[inside] = path
			return nil
		}
		// Both systems keep pages of the manual compressed.
		zipped := filepath.Join(folder, filepath.Base(path)+".gz")
		shared["man/"+inside+".gz"] = zipped
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(content); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		return os.WriteFile(zipped, b.Bytes(), 0o644)
	})
	return shared, err
}
