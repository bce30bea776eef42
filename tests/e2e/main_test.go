package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// binaries is the directory of the programs under test, built once for all
// tests: a test that ran something else than what is shipped would prove
// little.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gatehouse-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binaries = dir
	build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "github.com/atenex/gatehouse/cmd/...")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the binaries: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	ground.end()
	if ground.failed && code == 0 {
		code = 1
	}
	return code
}

// ground is what the stack that most tests share stands on, in the place of the
// *testing.T of a stack that belongs to one test.
var ground = &packageScope{ctx: context.Background()}

// packageScope is a testing.TB that lasts as long as the package's tests.
type packageScope struct {
	testing.TB // for its unexported method; nothing else of it is used
	ctx        context.Context

	mu       sync.Mutex
	cleanups []func()
	failed   bool
}

func (p *packageScope) Helper()                      {}
func (p *packageScope) Context() context.Context     { return p.ctx }
func (p *packageScope) Failed() bool                 { return p.failed }
func (p *packageScope) Logf(format string, a ...any) { fmt.Fprintf(os.Stderr, format+"\n", a...) }

// Fatal and Fatalf panic, so that each test that asks for the shared stack
// fails with the same words: sync.OnceValue repeats the panic.
func (p *packageScope) Fatal(a ...any)                 { panic(fmt.Sprint(a...)) }
func (p *packageScope) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

func (p *packageScope) Errorf(format string, a ...any) {
	p.failed = true
	p.Logf(format, a...)
}

func (p *packageScope) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

func (p *packageScope) TempDir() string {
	dir, err := os.MkdirTemp(binaries, "shared-")
	if err != nil {
		p.Fatal(err)
	}
	return dir
}

func (p *packageScope) end() {
	for i := len(p.cleanups) - 1; i >= 0; i-- {
		p.cleanups[i]()
	}
}

// commons is the stack that tests share which change nothing about it but add
// users of their own. Those tests run one after the other: what reached an
// upstream is then of the test that looks.
var commons = sync.OnceValue(func() *stack {
	s := startStack(ground, nil)
	// As an adopted table may have it.
	s.sql(`ALTER TABLE users ALTER COLUMN is_active DROP NOT NULL`)
	return s
})

// shared is that stack in the hands of a test.
func shared(t *testing.T) *stack {
	t.Helper()
	s := commons().in(t)
	s.ingest.forget()
	s.query.forget()
	return s
}

// quoted is text in one line, for names of subtests.
func quoted(text string) string {
	return strings.ReplaceAll(fmt.Sprintf("%q", text), "/", "|")
}
