// Package lab is a Kubernetes API without a cluster: a real kube-apiserver on a
// real etcd, and helm, built from pinned Go modules. It has no controllers, no
// scheduler and no kubelet, so it proves what is accepted, not what runs.
//
// It must never know the chart.
package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/atenex/gatehouse/internal/devstack"
)

// Names of the programs.
const (
	Helm      = "helm"
	etcd      = "etcd"
	apiServer = "kube-apiserver"
)

// What is built. The library version of a Kubernetes release is 0 for its 1.
const (
	helmVersion       = "v3.22.0"
	etcdVersion       = "v3.6.6"
	kubernetesVersion = "v1.36.3"
	libraryVersion    = "v0.36.3"
)

// Tools finds or builds programs.
type Tools struct {
	// Dir may hold programs in bin/, which are taken as they are.
	Dir string
	// CacheDir keeps what was built, by version; empty: devstack.DefaultCacheDir.
	CacheDir string
	// Environ is what the go command runs in.
	Environ []string
	// Notice is told before something takes long; nil: nobody is.
	Notice func(string)
}

// Find gives the path of a program and builds it if it is nowhere. The
// API server takes a quarter of an hour on a small machine.
func (t Tools) Find(ctx context.Context, name string) (string, error) {
	build, version := t.recipe(name)
	if build == nil {
		return "", fmt.Errorf("no recipe for %q", name)
	}
	if t.Dir != "" {
		path := filepath.Join(t.Dir, "bin", name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	cache := t.CacheDir
	if cache == "" {
		dir, err := devstack.DefaultCacheDir()
		if err != nil {
			return "", err
		}
		cache = dir
	}
	path := filepath.Join(cache, "k8s", fmt.Sprintf("%s-%s-%s-%s", name, version, runtime.GOOS, runtime.GOARCH))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if t.Notice != nil {
		t.Notice("building " + name + " " + version)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", err
	}
	scratch, err := os.MkdirTemp(filepath.Dir(path), "build-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	made, err := build(ctx, scratch)
	if err != nil {
		return "", fmt.Errorf("building %s %s: %w", name, version, err)
	}
	// In one step: two runs may build at once.
	return path, os.Rename(made, path)
}

type recipe func(ctx context.Context, scratch string) (path string, err error)

func (t Tools) recipe(name string) (recipe, string) {
	switch name {
	case Helm:
		return func(ctx context.Context, scratch string) (string, error) {
			_, err := t.gocmd(ctx, scratch, []string{"GOBIN=" + scratch}, "install", "helm.sh/helm/v3/cmd/helm@"+helmVersion)
			return filepath.Join(scratch, "helm"), err
		}, helmVersion
	case etcd:
		// Its module replaces others by directories beside it, with which it cannot
		// be installed, only be required.
		const module = "go.etcd.io/etcd/server/v3"
		return func(ctx context.Context, scratch string) (string, error) {
			goMod := "module lab\n\ngo 1.26.0\n\nrequire " + module + " " + etcdVersion + "\n"
			return t.wrapped(ctx, scratch, goMod, "package main\n\nimport _ \""+module+"/etcdmain\"\n\nfunc main() {}\n", module, "")
		}, etcdVersion
	case apiServer:
		return t.buildAPIServer, kubernetesVersion
	}
	return nil, ""
}

// staged are the modules that Kubernetes' own replaces by directories.
var staged = regexp.MustCompile(`(?m)^\s*(k8s\.io/\S+) => \./staging/`)

func (t Tools) buildAPIServer(ctx context.Context, scratch string) (string, error) {
	dir, err := t.Module(ctx, "k8s.io/kubernetes", kubernetesVersion)
	if err != nil {
		return "", err
	}
	theirs, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", err
	}
	var goMod strings.Builder
	fmt.Fprintf(&goMod, "module lab\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes %s\n\nreplace (\n", kubernetesVersion)
	for _, m := range staged.FindAllSubmatch(theirs, -1) {
		fmt.Fprintf(&goMod, "\t%s => %s %s\n", m[1], m[1], libraryVersion)
	}
	goMod.WriteString(")\n")
	const source = `package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
`
	// What the server says of itself, which helm holds against kubeVersion.
	const stamp = "k8s.io/component-base/version"
	minor := strings.Split(kubernetesVersion, ".")[1]
	return t.wrapped(ctx, scratch, goMod.String(), source, ".",
		fmt.Sprintf("-s -w -X %s.gitVersion=%s -X %s.gitMajor=1 -X %s.gitMinor=%s", stamp, kubernetesVersion, stamp, stamp, minor))
}

// wrapped builds a package from within a module made for that.
func (t Tools) wrapped(ctx context.Context, scratch, goMod, source, pkg, ldflags string) (string, error) {
	for name, text := range map[string]string{"go.mod": goMod, "main.go": source} {
		if err := os.WriteFile(filepath.Join(scratch, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	if _, err := t.gocmd(ctx, scratch, nil, "mod", "tidy", "-e"); err != nil {
		return "", err
	}
	made := filepath.Join(scratch, "made")
	_, err := t.gocmd(ctx, scratch, nil, "build", "-mod=mod", "-buildvcs=false", "-ldflags", ldflags, "-o", made, pkg)
	return made, err
}

// Module downloads a module and gives its directory, for files in it that are no
// Go.
func (t Tools) Module(ctx context.Context, path, version string) (string, error) {
	out, err := t.gocmd(ctx, os.TempDir(), nil, "mod", "download", "-json", path+"@"+version)
	if err != nil {
		return "", err
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		return "", err
	}
	if m.Dir == "" {
		return "", errors.New("go mod download names no directory for " + path)
	}
	return m.Dir, nil
}

// gocmd runs the go command in dir, outside of any workspace, and gives its output.
func (t Tools) gocmd(ctx context.Context, dir string, environ []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	// What is set for the project's own module is not for others.
	cmd.Env = slices.Concat(t.Environ, []string{"GOFLAGS=", "GOWORK=off"}, environ)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, tail(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// tail is what is worth showing of a long text.
func tail(text []byte) []byte {
	const most = 4 << 10
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return text
}
