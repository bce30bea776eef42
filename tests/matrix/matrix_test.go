package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/devstack"
)

const root = "../.."

// testsOf are the names of the top-level tests of a package.
func testsOf(t *testing.T, pkg string) map[string]bool {
	t.Helper()
	dir := filepath.Join(root, pkg)
	packages, err := parser.ParseDir(token.NewFileSet(), dir, //nolint:staticcheck // build tags do not matter here
		func(f fs.FileInfo) bool { return strings.HasSuffix(f.Name(), "_test.go") }, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, p := range packages {
		for _, f := range p.Files {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") && fn.Name.Name != "TestMain" {
					names[fn.Name.Name] = true
				}
			}
		}
	}
	return names
}

func TestEveryNamedTestExistsAndIsInOneGroup(t *testing.T) {
	edges, gates := testsOf(t, edge), testsOf(t, gate)
	seen := map[string]bool{}
	for _, name := range named() {
		if !edges[name] && !gates[name] {
			t.Errorf("%s is in neither %s nor %s", name, edge, gate)
		}
		if seen[name] {
			t.Errorf("%s is named twice", name)
		}
		seen[name] = true
	}
}

func TestOnlyTestsWithoutSubtestsCount(t *testing.T) {
	for _, c := range []struct {
		name, events string
		want         []result
	}{
		{
			"subtests in the place of their test",
			`{"Action":"run","Test":"A"}{"Action":"run","Test":"A/x"}{"Action":"run","Test":"A/y"}{"Action":"pass","Test":"A/x"}{"Action":"fail","Test":"A/y"}{"Action":"fail","Test":"A"}{"Action":"fail"}`,
			[]result{{"A/x", outcomePassed}, {"A/y", outcomeFailed}},
		},
		{
			"a test that fails beside its subtests",
			`{"Action":"run","Test":"A"}{"Action":"run","Test":"A/x"}{"Action":"pass","Test":"A/x"}{"Action":"fail","Test":"A"}`,
			[]result{{"A", outcomeFailed}, {"A/x", outcomePassed}},
		},
		{
			"a test that never ended",
			`{"Action":"run","Test":"A"}{"Action":"output","Test":"A","Output":"panic"}{"Action":"fail"}`,
			[]result{{"A", outcomeFailed}},
		},
		{
			"a name that begins like another",
			`{"Action":"run","Test":"A"}{"Action":"pass","Test":"A"}{"Action":"run","Test":"AB"}{"Action":"skip","Test":"AB"}`,
			[]result{{"A", outcomePassed}, {"AB", outcomeSkipped}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := read(strings.NewReader(strings.ReplaceAll(c.events, "}{", "}\n{")))
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %v, %v, want %v", got, err, c.want)
			}
		})
	}
	for _, events := range []string{"", "FAIL: it does not build\n"} {
		if got, err := read(strings.NewReader(events)); err == nil {
			t.Errorf("%q: got %v, want an error", events, got)
		}
	}
}

// TestThePageHasTheTableOfThisProgram does not run the matrix again; it holds the
// page to the versions and groups that a run would have.
func TestThePageHasTheTableOfThisProgram(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "envoy-versions.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, inner, _, err := block(string(page))
	if err != nil {
		t.Fatal(err)
	}
	head := regexp.MustCompile("^`make e2e-matrix`, \\d{4}-\\d\\d-\\d\\d, [a-z0-9]+/[a-z0-9]+:\n\n")
	body := head.ReplaceAllString(inner, "")
	if body == inner {
		t.Fatalf("no command and date in front of the table:\n%s", inner)
	}
	rows := strings.Split(strings.TrimSpace(body), "\n")
	if want := "| tests that passed on Envoy | " + strings.Join(devstack.EnvoyReleases(), " | ") + " |"; rows[0] != want {
		t.Errorf("the head is %q, want %q", rows[0], want)
	}
	cell := regexp.MustCompile(`^[1-9]\d*(, \*\*[1-9]\d* failed\*\*)?(, [1-9]\d* skipped)?$`)
	var names []string
	for _, row := range rows[2:] {
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		names = append(names, cells[0])
		if len(cells) != 1+len(devstack.EnvoyReleases()) {
			t.Errorf("%q has %d cells", row, len(cells))
		}
		for _, c := range cells[1:] {
			if !cell.MatchString(c) {
				t.Errorf("%q in %q is no count", c, row)
			}
		}
	}
	var want []string
	for _, g := range groups() {
		want = append(want, g.name)
	}
	if !slices.Equal(names, want) {
		t.Errorf("the groups are %q, want %q: run make e2e-matrix", names, want)
	}
}

func TestTheTableIsWrittenBetweenTheMarks(t *testing.T) {
	tb := newTable([]string{"1.37.0", "1.40.0"})
	for _, g := range groups() {
		for _, v := range tb.versions {
			test := "TestThatIsInNoGroup/x"
			if len(g.tests) > 0 {
				test = g.tests[0] + "/x"
			}
			tb.add(v, result{test, outcomePassed})
		}
	}
	if !tb.passed() || tb.complete() {
		t.Errorf("passed %v complete %v, want all passed, of two versions only", tb.passed(), tb.complete())
	}
	tb.add("1.40.0", result{"TestWebSockets", outcomeFailed})
	tb.add("1.40.0", result{"TestWebSockets/x", outcomeSkipped})
	if tb.passed() {
		t.Error("a failed test was not noticed")
	}
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte("before\n"+markBegin+"old\n"+markEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := writeBlock(file, tb.markdown("2026-01-02, linux/amd64")); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before\n" + markBegin + "`make e2e-matrix`, 2026-01-02, linux/amd64:\n", "| streams, uploads and WebSockets | 1 | 1, **1 failed**, 1 skipped |\n", markEnd + "after\n"} {
		if strings.Count(string(got), want) != 1 {
			t.Errorf("want %q once in\n%s", want, got)
		}
	}
	if err := writeBlock(file+"x", ""); err == nil {
		t.Error("a page that is not there was written")
	}
}
