package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binaries is the directory of the programs that the pages speak of, built once.
var binaries string

func TestMain(m *testing.M) {
	// The same program is curl, psql and make to the shells of the pages.
	if standIn, ok := standIns[filepath.Base(os.Args[0])]; ok {
		os.Exit(standIn(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gatehouse-docs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binaries = filepath.Join(dir, "bin")
	build := exec.Command("go", "build", "-o", binaries+string(filepath.Separator),
		"github.com/atenex/gatehouse/cmd/authz", "github.com/atenex/gatehouse/cmd/login", "github.com/atenex/gatehouse/cmd/gatehouse")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the binaries: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	if err := endStack(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}
