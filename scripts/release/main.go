// Command release packs the three programs: archives, packages for Debian and Red Hat, an image,
// the Helm chart, a list of what is in them, and the digests of all.
//
//	go run . -version v1.2.3 -out DIR [OS/ARCH …]
//
// It builds the commit that is checked out, without any change beside it. Every file depends on the
// commit, the version and Go's version alone: whoever builds the same again gets the same bytes.
// Times in files are the commit's.
//
// It is a module of its own, so that its dependencies never touch the programs.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// all are the platforms that are built where none is named.
var all = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}

// Vault wants versions in this form.
var versionForm = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)

// release is what is being built.
type release struct {
	version string    // v1.2.3
	commit  string    // in full
	date    time.Time // of the commit
	root    string    // of the sources, as the commit has them
	stage   string    // a folder for what is not finished
	out     string    // the folder for what is
}

// plain is the version without its v.
func (r *release) plain() string { return strings.TrimPrefix(r.version, "v") }

// file returns the path of a finished file: NAME_VERSION_REST.
func (r *release) file(name, rest string) string {
	return filepath.Join(r.out, name+"_"+r.version+"_"+rest)
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	version := flags.String("version", "", "the version, such as v1.2.3")
	out := flags.String("out", "dist", "the folder for the files; it must be empty or not be there")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if !versionForm.MatchString(*version) {
		return fmt.Errorf("-version: %q is not a version: Vault wants one like v1.2.3", *version)
	}
	platforms := flags.Args()
	if len(platforms) == 0 {
		platforms = all
	}
	for _, platform := range platforms {
		if !slices.Contains(all, platform) {
			return fmt.Errorf("%q is not one of the platforms %s", platform, strings.Join(all, ", "))
		}
	}
	r, err := begin(ctx, *version, *out)
	if err != nil {
		return err
	}
	defer os.RemoveAll(r.stage)
	if err := r.build(ctx, platforms); err != nil {
		return err
	}
	return r.finish(stdout, platforms)
}

// begin takes the sources of the commit into a folder of their own.
func begin(ctx context.Context, version, out string) (_ *release, err error) {
	r := &release{version: version}
	if r.out, err = filepath.Abs(out); err != nil {
		return nil, err
	}
	commit, err := output(ctx, ".", "git", "log", "-1", "--format=%H %ct")
	if err != nil {
		return nil, fmt.Errorf("a release is built from a clone: %w", err)
	}
	// This program runs from the working copy, and what it makes must be the commit's.
	if changed, err := output(ctx, ".", "git", "status", "--porcelain", "--", "."); err != nil || changed != "" {
		return nil, errors.Join(err, fmt.Errorf("commit first: scripts/release differs from the commit:\n%s", changed))
	}
	var seconds int64
	if _, err := fmt.Sscanf(commit, "%s %d", &r.commit, &seconds); err != nil {
		return nil, fmt.Errorf("git log answered %q: %w", commit, err)
	}
	r.date = time.Unix(seconds, 0).UTC()
	if err := emptyFolder(r.out); err != nil {
		return nil, fmt.Errorf("-out: %w", err)
	}
	if r.stage, err = os.MkdirTemp("", "release-"); err != nil {
		return nil, err
	}
	r.root = filepath.Join(r.stage, "source")
	if err := r.takeSources(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(r.stage))
	}
	return r, nil
}

func emptyFolder(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	there, err := os.ReadDir(path)
	if err == nil && len(there) > 0 {
		err = fmt.Errorf("%s is not empty: its files would be taken for this release's", path)
	}
	return err
}

// takeSources writes the commit's files into r.root.
func (r *release) takeSources(ctx context.Context) error {
	clone, err := output(ctx, ".", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	if err := os.Mkdir(r.root, 0o755); err != nil {
		return err
	}
	files := filepath.Join(r.stage, "source.tar")
	if _, err := output(ctx, clone, "git", "archive", "--format=tar", "--output="+files, r.commit); err != nil {
		return err
	}
	_, err = output(ctx, r.root, "tar", "-xf", files)
	return err
}

// build writes every file but the digests.
func (r *release) build(ctx context.Context, platforms []string) error {
	for _, step := range []func(context.Context) error{r.manual, r.chart} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	var packed []platform
	for _, name := range platforms {
		p, err := r.programs(ctx, name)
		if err != nil {
			return err
		}
		steps := []func() error{
			func() error { return r.archive(ctx, p) },
			func() error { return r.bill(p) },
		}
		if p.os == "linux" {
			steps = append(steps, func() error { return r.packages(ctx, p) })
			packed = append(packed, p)
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
		}
	}
	if len(packed) == 0 {
		return nil
	}
	return r.image(packed)
}

// finish writes the digests, and says what to do with them.
func (r *release) finish(stdout io.Writer, platforms []string) error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, entry := range entries {
		sum, err := digest(filepath.Join(r.out, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, entry.Name())
	}
	if err := os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(sums.String()), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s\nTo sign it:\n  ssh-keygen -Y sign -n file -f KEY %s\n", sums.String(), filepath.Join(r.out, "SHA256SUMS"))
	for _, name := range platforms {
		sum, err := digest(filepath.Join(r.stage, name, plugin))
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "On Vault's servers of %s:\n  vault plugin register -sha256=%s -version=%s secret %s\n", name, sum, r.version, plugin)
	}
	return nil
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err)
}
