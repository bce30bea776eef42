package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The rows of CONTRIBUTING.md, "Decisions and traps", and the tests that they name.
var (
	numberedRow = regexp.MustCompile(`(?m)^\| ([DM]\d+) \| (.+) \| (.+) \|$`)
	namedTest   = regexp.MustCompile("`([a-z0-9_/]+_test\\.go)` `(Test\\w+)`")
)

const (
	decisions = 18 // D1 to D18
	traps     = 13 // M1 to M13
)

// Every decision and every measured trap is held by a test that bears its number. A
// test that is renamed or taken away is missed here.
func TestEveryDecisionAndEveryTrapHasItsTest(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][][]string{}
	for _, m := range numberedRow.FindAllStringSubmatch(string(page), -1) {
		if rows[m[1]] != nil {
			t.Errorf("%s has two rows", m[1])
		}
		rows[m[1]] = namedTest.FindAllStringSubmatch(m[3], -1)
	}
	if len(rows) != decisions+traps {
		t.Errorf("%d rows, want %d", len(rows), decisions+traps)
	}
	for kind, last := range map[string]int{"D": decisions, "M": traps} {
		for n := 1; n <= last; n++ {
			number := fmt.Sprint(kind, n)
			if len(rows[number]) == 0 {
				t.Errorf("%s is held by no test", number)
			}
			for _, m := range rows[number] {
				text, found := testNamed(t, filepath.Join("..", "..", filepath.FromSlash(m[1])), m[2])
				switch {
				case !found:
					t.Errorf("%s: there is no %s in %s", number, m[2], m[1])
				case !regexp.MustCompile(number + `(\D|$)`).MatchString(text):
					t.Errorf("%s: %s in %s does not bear the number", number, m[2], m[1])
				}
			}
		}
	}
}

// testNamed is the text of a test, with the comment above it.
func testNamed(t *testing.T, file, name string) (text string, found bool) {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
		return "", false
	}
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, source, parser.ParseComments)
	if err != nil {
		t.Error(err)
		return "", false
	}
	for _, d := range parsed.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv != nil || f.Name.Name != name {
			continue
		}
		from := f.Pos()
		if f.Doc != nil {
			from = f.Doc.Pos()
		}
		return string(source[set.Position(from).Offset:set.Position(f.End()).Offset]), true
	}
	return "", false
}
