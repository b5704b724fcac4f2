package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// chartFolder is the Helm chart, in the sources and in what is packed of them.
const chartFolder = "bootstrap/deploy/helm/mcp-gateway"

// versioned are the lines that name the version, in what is packed beside the programs.
var versioned = []struct {
	path    string
	line    *regexp.Regexp
	replace string // with the version, with or without v
}{
	{chartFolder + "/Chart.yaml", regexp.MustCompile(`(?m)^version: .*$`), "version: %[1]s"},
	{chartFolder + "/Chart.yaml", regexp.MustCompile(`(?m)^appVersion: .*$`), "appVersion: v%[1]s"},
	{"bootstrap/deploy/kubernetes/gateway/deployment.yaml", regexp.MustCompile(`/mcp-gateway:v[^"]*"`), `/mcp-gateway:v%[1]s"`},
}

// documents lays out what is packed beside the programs, with the release's version.
func (r *release) documents(ctx context.Context, folder string) error {
	if err := r.run(ctx, nil, "scripts/package-files.sh", folder); err != nil {
		return err
	}
	for _, v := range versioned {
		path := filepath.Join(folder, v.path)
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if len(v.line.FindAll(content, -1)) != 1 {
			return fmt.Errorf("%s has not one place that %s finds", v.path, v.line)
		}
		content = v.line.ReplaceAllLiteral(content, fmt.Appendf(nil, v.replace, r.plain()))
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// chart packs the Helm chart as `helm package` does.
func (r *release) chart(ctx context.Context) error {
	folder := filepath.Join(r.stage, "chart")
	if err := r.documents(ctx, folder); err != nil {
		return err
	}
	return tarTree(filepath.Join(r.out, "mcp-gateway-"+r.plain()+".tgz"), filepath.Join(folder, chartFolder), "mcp-gateway", r.date, true)
}
