package mesh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/devstack"
	"github.com/atenex/gatehouse/tests/k8s/lab"
)

const (
	// labVariable asks for the tests that need control planes.
	labVariable = "GATEHOUSE_LAB"
	// programsVariable names the directory of their programs, in the process that
	// runs in a network of its own.
	programsVariable = "GATEHOUSE_LAB_PROGRAMS"

	// pod is the address of everything that a control plane is told of: to
	// Kubernetes a loopback address is no endpoint.
	pod = "10.80.0.1"
)

// The modules that hold the definitions of what the recipes use.
const (
	envoyGateway = "github.com/envoyproxy/gateway@v1.9.1"
	istioAPI     = "istio.io/api@v1.31.1"
	contour      = "github.com/projectcontour/contour@v1.33.8"
)

// wanted says that the tests are to be run again, in a network of their own:
// control planes listen on fixed ports, and on every address.
func wanted() bool { return os.Getenv(labVariable) != "" && os.Getenv(programsVariable) == "" }

func apart() int {
	if os.Geteuid() != 0 {
		return complain(errors.New(labVariable + ": control planes get a network of their own, which takes root"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	dir, err := os.MkdirTemp("", "gatehouse-lab-")
	if err != nil {
		return complain(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	env, err := fetch(ctx, dir)
	if err != nil {
		return complain(err)
	}
	again := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:noctx // the tests' own time-out bounds it
	again.Env = append(os.Environ(), env...)
	again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	runtime.LockOSThread() // whose end would be taken for the parent's
	err = again.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return max(ended.ExitCode(), 1)
	}
	if err != nil {
		return complain(err)
	}
	return 0
}

// fetch brings, while there is a network, what is needed without one.
func fetch(ctx context.Context, dir string) (env []string, err error) {
	envoy, err := devstack.EnvoyBinary(ctx, devstack.FindOptions{EnvoyBin: os.Getenv("ENVOY_BIN")})
	if err != nil {
		return nil, err
	}
	postgres, err := devstack.PostgresBinaries(ctx, devstack.FindOptions{PostgresBin: os.Getenv("PG_BIN")})
	if err != nil {
		return nil, err
	}
	tools := lab.Tools{Dir: os.Getenv("LAB"), Environ: os.Environ(), Notice: func(text string) { fmt.Fprintln(os.Stderr, text) }}
	for _, module := range []string{envoyGateway, istioAPI, contour} {
		path, version, _ := strings.Cut(module, "@")
		if _, err := tools.Module(ctx, path, version); err != nil {
			return nil, err
		}
	}
	for name, find := range map[string]func() (string, error){
		"etcd":           func() (string, error) { return tools.Find(ctx, "etcd") },
		"kube-apiserver": func() (string, error) { return tools.Find(ctx, "kube-apiserver") },
		"envoy-gateway":  func() (string, error) { return installed(ctx, tools, envoyGateway, "cmd/envoy-gateway") },
		"meshconfig":     func() (string, error) { return meshconfig(ctx) },
		"contour":        func() (string, error) { return installed(ctx, tools, contour, "cmd/contour") },
	} {
		path, err := find()
		if err != nil {
			return nil, err
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	return []string{programsVariable + "=" + dir, "ENVOY_BIN=" + envoy.Path, "PG_BIN=" + postgres.Path}, nil
}

// installed is the path of a program of a module, which is built if it is in
// neither the directory of the tools nor the cache.
func installed(ctx context.Context, tools lab.Tools, module, pkg string) (string, error) {
	name := filepath.Base(pkg)
	path, version, _ := strings.Cut(module, "@")
	if made := filepath.Join(tools.Dir, "bin", name); tools.Dir != "" && exists(made) {
		return made, nil
	}
	cache, err := devstack.DefaultCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "k8s", name+"-"+version)
	made := filepath.Join(dir, name)
	if exists(made) {
		return made, nil
	}
	tools.Notice("building " + name + " " + version)
	build := exec.CommandContext(ctx, "go", "install", path+"/"+pkg+"@"+version)
	build.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", name, err, out)
	}
	return made, nil
}

// meshconfig builds testdata/meshconfig, in a module of its own: nothing else of
// ours needs Istio's messages.
func meshconfig(ctx context.Context) (string, error) {
	cache, err := devstack.DefaultCacheDir()
	if err != nil {
		return "", err
	}
	path, version, _ := strings.Cut(istioAPI, "@")
	dir := filepath.Join(cache, "k8s", "meshconfig-"+version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	source, err := os.ReadFile("testdata/meshconfig/main.go.txt")
	if err != nil {
		return "", err
	}
	for name, text := range map[string]string{
		"go.mod": "module meshconfig\n\ngo 1.26.0\n\nrequire " + path + " " + version + "\n", "main.go": string(source),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	for _, args := range [][]string{{"mod", "tidy"}, {"build", "-buildvcs=false", "-o", "meshconfig", "."}} {
		build := exec.CommandContext(ctx, "go", args...)
		build.Dir, build.Env = dir, append(os.Environ(), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %s: %w\n%s", args[0], err, out)
		}
	}
	return filepath.Join(dir, "meshconfig"), nil
}

func exists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// settleNetwork makes the new network usable.
func settleNetwork() error {
	for _, args := range []string{"link set lo up", "address add " + pod + "/32 dev lo"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil { //nolint:noctx // ends by itself
			return fmt.Errorf("ip %s: %w\n%s", args, err, out)
		}
	}
	return nil
}

// labProgram is the path of a program of the lab; without a lab the test is
// skipped.
func labProgram(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv(programsVariable)
	if dir == "" {
		t.Skip("needs a control plane: make check-mesh")
	}
	return filepath.Join(dir, name)
}

// inModule is the path of a file of a module.
func inModule(t testing.TB, module, file string) string {
	t.Helper()
	path, version, _ := strings.Cut(module, "@")
	dir, err := lab.Tools{Environ: os.Environ()}.Module(t.Context(), path, version)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, file)
}
