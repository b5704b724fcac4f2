package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// archive packs the programs with their pages and examples: one folder in a tar.gz.
func (r *release) archive(ctx context.Context, p platform) error {
	name := plugin + "_" + r.version + "_" + p.os + "_" + p.arch
	folder := filepath.Join(r.stage, "archives", name)
	if err := r.documents(ctx, folder); err != nil {
		return err
	}
	for _, source := range sources {
		if err := copyTo(filepath.Join(folder, source.program), filepath.Join(p.programs, source.program), 0o755); err != nil {
			return err
		}
	}
	sum, err := digest(filepath.Join(p.programs, plugin))
	if err != nil {
		return err
	}
	// Vault's catalog wants the plugin's digest.
	if err := os.WriteFile(filepath.Join(folder, plugin+".sha256"), []byte(sum+"  "+plugin+"\n"), 0o644); err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(folder, "share"), os.DirFS(r.share())); err != nil {
		return err
	}
	return tarTree(filepath.Join(r.out, name+".tar.gz"), folder, name, r.date, true)
}

// tarTree writes a folder as a tar, under another name. Nothing in it depends on this machine.
func tarTree(to, folder, name string, at time.Time, compressed bool) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var w io.Writer = f
	if compressed {
		z := gzip.NewWriter(f)
		defer func() { err = errors.Join(err, z.Close()) }()
		w = z
	}
	t := tar.NewWriter(w)
	defer func() { err = errors.Join(err, t.Close()) }()
	return filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error { // in lexical order
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		return addFile(t, file, path.Join(name, filepath.ToSlash(inside)), info, at)
	})
}

func addFile(t *tar.Writer, file, name string, info fs.FileInfo, at time.Time) error {
	header := &tar.Header{Name: name, ModTime: at, Mode: 0o644, Format: tar.FormatPAX, Typeflag: tar.TypeReg, Size: info.Size()}
	switch {
	case info.IsDir():
		header.Typeflag, header.Name, header.Mode, header.Size = tar.TypeDir, name+"/", 0o755, 0
	case info.Mode()&0o100 != 0:
		header.Mode = 0o755
	}
	if err := t.WriteHeader(header); err != nil || info.IsDir() {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(t, f)
	return err
}
