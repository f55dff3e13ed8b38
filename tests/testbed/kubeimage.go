package testbed

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// Image is one that containers are made of, in an archive that containerd imports: there is no registry.
type Image struct{ Name, Tar string }

// Load imports an image into every node that has power.
func (k *Kubernetes) Load(t T, i Image) {
	t.Helper()
	var all sync.WaitGroup
	for _, node := range k.Nodes {
		if _, err := os.Stat(filepath.Join(k.Dir, node, "pid")); err == nil {
			all.Go(func() { k.Exec(node, "ctr", "-n", "k8s.io", "images", "import", i.Tar) })
		}
	}
	all.Wait()
}

// imageConfig says how an image's containers start.
type imageConfig struct {
	Name, User, Dir string
	Entrypoint, Env []string
}

// layer is the only one of an image, in the making. The first error is kept for image.
type layer struct {
	file *os.File
	sum  hash.Hash
	tar  *tar.Writer
	seen map[string]bool
	err  error
}

// newLayer begins a layer, whose content is collected in a directory.
func newLayer(dir string) (*layer, error) {
	f, err := os.CreateTemp(dir, "layer-")
	if err != nil {
		return nil, err
	}
	l := &layer{file: f, sum: sha256.New(), seen: map[string]bool{".": true}}
	l.tar = tar.NewWriter(io.MultiWriter(f, l.sum))
	return l, nil
}

// header writes one, after those of the directories above it. It says whether the name is new.
func (l *layer) header(h *tar.Header) bool {
	if l.err != nil || l.seen[h.Name] {
		return false
	}
	l.seen[h.Name] = true
	if above := path.Dir(h.Name); !l.seen[above] {
		l.dir(above, 0o755, 0)
	}
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	if l.err == nil {
		l.err = l.tar.WriteHeader(h)
	}
	return l.err == nil
}

func (l *layer) dir(name string, mode int64, uid int) {
	l.header(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, Uid: uid, Gid: uid})
}

func (l *layer) link(name, target string) {
	l.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
}

func (l *layer) text(name, content string, mode int64) {
	if l.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))}) {
		_, l.err = io.WriteString(l.tar, content)
	}
}

// users writes the passwd file, and the groups of the same names.
func (l *layer) users(lines ...string) {
	var groups strings.Builder
	for _, line := range lines {
		f := strings.Split(line, ":")
		fmt.Fprintf(&groups, "%s:x:%s:\n", f[0], f[3])
	}
	l.text("etc/passwd", strings.Join(lines, "\n")+"\n", 0o644)
	l.text("etc/group", groups.String(), 0o644)
}

// copy copies a file or a link of this machine's; others are left out. Times stay: Python compares them.
func (l *layer) copy(from, name string) {
	if l.err != nil {
		return
	}
	info, err := os.Lstat(from)
	if err != nil {
		l.err = err
		return
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			l.err = err
			return
		}
		l.link(name, target)
		return
	}
	if !info.Mode().IsRegular() {
		return
	}
	f, err := os.Open(from)
	if err != nil {
		l.err = err
		return
	}
	defer func() { _ = f.Close() }()
	if l.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(info.Mode().Perm()), Size: info.Size(), ModTime: info.ModTime()}) {
		_, l.err = io.Copy(l.tar, f)
	}
}

// tree copies a directory of this machine's, but for what skip names by its path below it.
func (l *layer) tree(from, name string, skip func(string) bool) {
	err := filepath.WalkDir(from, func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, file)
		if err != nil || e.IsDir() || skip != nil && skip(below) {
			return err
		}
		l.copy(file, path.Join(name, below))
		return l.err
	})
	if l.err == nil {
		l.err = err
	}
}

// image ends the layer and writes the archive: docker's, which needs no index.
func (l *layer) image(out string, c imageConfig) error {
	defer func() { _ = l.file.Close(); _ = os.Remove(l.file.Name()) }()
	if l.err == nil {
		l.err = l.tar.Close()
	}
	if l.err != nil {
		return l.err
	}
	size, err := l.file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = l.file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	type object = map[string]any
	config, err := json.Marshal(object{"architecture": runtime.GOARCH, "os": "linux", "created": "1970-01-01T00:00:00Z",
		"config": object{"Entrypoint": c.Entrypoint, "User": c.User, "WorkingDir": path.Join("/", c.Dir),
			"Env": append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, c.Env...)},
		"rootfs":  object{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(l.sum.Sum(nil))}},
		"history": []object{{"created": "1970-01-01T00:00:00Z"}}})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(config)
	name := hex.EncodeToString(sum[:]) + ".json"
	manifest, err := json.Marshal([]object{{"Config": name, "RepoTags": []string{c.Name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	f, err := os.Create(out + ".new")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	w := tar.NewWriter(f)
	for _, part := range []struct {
		name string
		size int64
		from io.Reader
	}{{"manifest.json", int64(len(manifest)), strings.NewReader(string(manifest))}, {name, int64(len(config)), strings.NewReader(string(config))},
		{"layer.tar", size, l.file}} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: part.name, Mode: 0o644, Size: part.size}); err != nil {
			return err
		}
		if _, err := io.Copy(w, part.from); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.Rename(out+".new", out)
}

// GatewayImage makes an image of the gateway under test, in which it runs as user 65532 and keeps its data in /var/lib/sluice.
func GatewayImage(t T) Image {
	t.Helper()
	i := Image{Name: "sluice.test/sluice:dev", Tar: filepath.Join(Root(), "build", "sluice-image.tar")}
	if err := os.MkdirAll(filepath.Dir(i.Tar), 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	binary := filepath.Join(Root(), "build", "sluice-static") // that of make build may want the C library
	if err := run("env", "CGO_ENABLED=0", "go", "build", "-C", Root(), "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/sluice"); err != nil {
		t.Fatalf("%v", err)
	}
	l, err := newLayer(filepath.Dir(i.Tar))
	if err != nil {
		t.Fatalf("%v", err)
	}
	l.copy(binary, "sluice")
	l.dir("tmp", 0o1777, 0)
	l.dir("var/lib/sluice", 0o755, 65532)
	l.users("root:x:0:0:root:/root:/sluice", "nobody:x:65534:65534:nobody:/:/sluice", "sluice:x:65532:65532:sluice:/var/lib/sluice:/sluice")
	if certificates := "/etc/ssl/certs/ca-certificates.crt"; exists(certificates) {
		l.copy(certificates, certificates[1:])
	}
	if err := l.image(i.Tar, imageConfig{Name: i.Name, User: "65532:65532", Dir: "var/lib/sluice", Entrypoint: []string{"/sluice"}}); err != nil {
		t.Fatalf("make the image of the gateway: %v", err)
	}
	return i
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
