//go:build k8s

package k8s

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/atenex/gatehouse/tests/k8s/lab"
)

const chart = "../../helm/gatehouse"

// grounds are what all tests stand on.
var grounds struct {
	dir      string // scratch
	helm     string
	binaries string // the directory of our programs
	tools    lab.Tools
	stop     func() // of the server, once it runs
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	dir, err := os.MkdirTemp("", "gatehouse-k8s-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		err = prepare(ctx, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { grounds.stop() }()
	return m.Run()
}

func prepare(ctx context.Context, dir string) error {
	grounds.dir, grounds.binaries = dir, filepath.Join(dir, "bin")
	grounds.stop = func() {}
	grounds.tools = lab.Tools{Dir: os.Getenv("LAB"), Environ: os.Environ(), Notice: func(text string) { fmt.Fprintln(os.Stderr, text) }}
	var err error
	if grounds.helm, err = grounds.tools.Find(ctx, lab.Helm); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", grounds.binaries+string(filepath.Separator), "github.com/atenex/gatehouse/cmd/...")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the programs: %w\n%s", err, out)
	}
	return nil
}

// started is the API server that all tests share. It is there for the first that
// asks: those of Envoy's part do without.
var started = sync.OnceValues(func() (*lab.Server, error) {
	// Building it may be part of that.
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	state := filepath.Join(grounds.dir, "api")
	if err := os.Mkdir(state, 0o700); err != nil {
		return nil, err
	}
	s, err := lab.Start(ctx, grounds.tools, state)
	if err != nil {
		return nil, err
	}
	grounds.stop = s.Stop
	if err := installOperator(ctx, s.Client); err != nil {
		return nil, fmt.Errorf("the Prometheus operator's definitions: %w", err)
	}
	return s, nil
})

func server(t *testing.T) *lab.Server {
	t.Helper()
	s, err := started()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// installOperator gives the server the kinds of the Prometheus operator, from the
// operator's own module, and waits until it serves them.
func installOperator(ctx context.Context, c *lab.Client) error {
	dir, err := grounds.tools.Module(ctx, "github.com/prometheus-operator/prometheus-operator", "v0.85.0")
	if err != nil {
		return err
	}
	for _, kind := range []string{"servicemonitors", "prometheusrules"} {
		text, err := os.ReadFile(filepath.Join(dir, "example", "prometheus-operator-crd", "monitoring.coreos.com_"+kind+".yaml"))
		if err != nil {
			return err
		}
		object, err := yaml.YAMLToJSON(text)
		if err != nil {
			return err
		}
		if _, err := c.Create(ctx, "", object, false); err != nil {
			return err
		}
		for {
			if _, err = c.Get(ctx, "/apis/monitoring.coreos.com/v1/"+kind); err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}
