package mesh

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binaries is the directory of the programs under test.
var binaries string

func TestMain(m *testing.M) {
	if wanted() {
		os.Exit(apart())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Getenv(programsVariable) != "" {
		if err := settleNetwork(); err != nil {
			return complain(err)
		}
	}
	dir, err := os.MkdirTemp("", "gatehouse-mesh-")
	if err != nil {
		return complain(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binaries = dir
	build := exec.Command("go", "build", "-o", dir+string(filepath.Separator),
		"github.com/atenex/gatehouse/cmd/authz", "github.com/atenex/gatehouse/cmd/gatehouse")
	if out, err := build.CombinedOutput(); err != nil {
		return complain(fmt.Errorf("building the binaries: %w\n%s", err, out))
	}
	return m.Run()
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}
