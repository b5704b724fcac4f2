package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// image writes one image for all platforms, as an OCI layout in a tar. It is what
// bootstrap/deploy/docker/Dockerfile makes: the gateway and the certificates of public CAs, nothing
// else, under an account without rights.
func (r *release) image(platforms []platform) error {
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		image, err := r.imageOf(p)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: p.os, Architecture: p.arch}},
		})
	}
	folder := filepath.Join(r.stage, "image")
	path, err := layout.Write(folder, empty.Index)
	if err != nil {
		return err
	}
	name := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": r.version})
	if err := path.AppendIndex(index, name); err != nil {
		return err
	}
	return tarTree(r.file("mcp-gateway", "oci.tar"), folder, ".", r.date, false)
}

func (r *release) imageOf(p platform) (v1.Image, error) {
	program, err := os.ReadFile(filepath.Join(p.programs, "mcp-gateway"))
	if err != nil {
		return nil, err
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	for _, file := range []layerFile{
		{"etc/ssl/certs/ca-certificates.crt", certificates(), 0o644},
		{"mcp-gateway", program, 0o755},
	} {
		layer, err := file.layer(r.date)
		if err != nil {
			return nil, err
		}
		image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: r.date}, CreatedBy: file.name}})
		if err != nil {
			return nil, err
		}
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = p.os, p.arch, v1.Time{Time: r.date}
	file.Config = v1.Config{
		// An account without rights. It is a number, so that Kubernetes can see that it is not root.
		User:         "65532:65532",
		ExposedPorts: map[string]struct{}{"8443/tcp": {}, "8081/tcp": {}},
		Entrypoint:   []string{"/mcp-gateway"},
		Cmd:          []string{"-config", "/etc/mcp-gateway/gateway.hcl"},
		StopSignal:   "SIGTERM",
		Labels: map[string]string{
			"org.opencontainers.image.title":    "mcp-gateway",
			"org.opencontainers.image.version":  r.version,
			"org.opencontainers.image.revision": r.commit,
			"org.opencontainers.image.created":  r.date.Format(time.RFC3339),
			"org.opencontainers.image.licenses": "MPL-2.0",
		},
	}
	return mutate.ConfigFile(image, file)
}

// certificates are those of the CAs that Mozilla trusts, as PEM. A CA that Mozilla trusts under
// conditions only is left out, since PEM has no place for them.
func certificates() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes all
	}
	return b.Bytes()
}

// layerFile is the one file of a layer.
type layerFile struct {
	name    string
	content []byte
	mode    int64
}

func (f layerFile) layer(at time.Time) (v1.Layer, error) {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	var folders []string
	for dir := filepath.Dir(f.name); dir != "."; dir = filepath.Dir(dir) {
		folders = append([]string{dir}, folders...)
	}
	for _, dir := range folders {
		if err := t.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: at}); err != nil {
			return nil, err
		}
	}
	if err := t.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: f.mode, Size: int64(len(f.content)), ModTime: at}); err != nil {
		return nil, err
	}
	if _, err := t.Write(f.content); err != nil {
		return nil, err
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	content := b.Bytes()
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithMediaType(types.OCILayer))
}
