package docs

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/problem"
)

const errorsPage = "docs/errors.md"

// table returns the rows under a heading of a page, cell by cell, without the
// marks of code.
func table(t *testing.T, text, title string) [][]string {
	t.Helper()
	_, section, found := strings.Cut(text, "\n## "+title+"\n")
	if !found {
		t.Fatalf("%s has no chapter %q", errorsPage, title)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var rows [][]string
	for line := range strings.Lines(section) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| status ") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		for i, c := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(c), "`")
		}
		rows = append(rows, cells)
	}
	return rows
}

func errorsText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(errorsPage)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTheRefusalsOfADecisionAreListedInTheirOrder holds the first table to the one
// that authz and login answer from.
func TestTheRefusalsOfADecisionAreListedInTheirOrder(t *testing.T) {
	t.Parallel()
	// These two name what was asked for.
	written := map[string]*problem.Problem{}
	for _, p := range []*problem.Problem{problem.TokenAudience("<audience>"), problem.ClaimsMissing("a", "b")} {
		written[p.Reason] = p
	}
	var want []string
	for _, p := range problem.Decisions() {
		if w := written[p.Reason]; w != nil {
			p = w
		}
		challenge := p.Challenge
		if challenge == "" {
			challenge = "–"
		}
		want = append(want, fmt.Sprintf("%d | %s | %s | %s", p.Status, p.Reason, p.Detail, challenge))
	}
	var got []string
	for _, row := range table(t, errorsText(t), "Refusals of a decision") {
		if len(row) != 5 || row[4] == "" {
			t.Errorf("a row has %d cells: %q", len(row), row)
			continue
		}
		got = append(got, strings.Join(row[:4], " | "))
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("%s lists\n%s\nwant\n%s", errorsPage, g, w)
	}
}

var loginProblem = regexp.MustCompile(`Reason: "([a-z_]+)", Status: http\.Status(\w+)(?:, Detail: "([^"]+)")?`)

// TestTheRefusalsOfLoginAreListed holds the second table to login's own.
func TestTheRefusalsOfLoginAreListed(t *testing.T) {
	t.Parallel()
	status := map[string]int{}
	for code := 400; code < 600; code++ {
		status[strings.NewReplacer(" ", "", "-", "").Replace(http.StatusText(code))] = code
	}
	status["InternalServerError"] = http.StatusInternalServerError
	var source strings.Builder
	if err := eachSource([]string{"login"}, func(text string) { source.WriteString(text) }); err != nil {
		t.Fatal(err)
	}
	want := set{}
	for _, m := range loginProblem.FindAllStringSubmatch(source.String(), -1) {
		detail := m[3]
		switch m[1] {
		case "invalid":
			detail = "[…]" // a list of faults
		case "no_default_company": // says which
			detail = "Required default company configuration ('<name>') not found."
		}
		if status[m[2]] == 0 {
			t.Fatalf("no status is called %s", m[2])
		}
		want[strconv.Itoa(status[m[2]])+" | "+detail] = true
	}
	if len(want) < 20 {
		t.Fatalf("login's table has %d refusals", len(want))
	}
	got := set{}
	for _, row := range table(t, errorsText(t), "Refusals of the login service") {
		if len(row) < 3 {
			t.Errorf("a row has %d cells: %q", len(row), row)
			continue
		}
		got[row[0]+" | "+row[1]] = true
	}
	for row := range want {
		if !got[row] {
			t.Errorf("%s lacks %s", errorsPage, row)
		}
	}
	for row := range got {
		if !want[row] {
			t.Errorf("%s lists %s, which login never answers", errorsPage, row)
		}
	}
}

var (
	detail  = regexp.MustCompile(`"detail": ?"((?:[^"\\]|\\.)*)"`)
	literal = regexp.MustCompile(`"((?:[^"\\\n]|\\.)*)"`)
)

// TestEveryErrorTextThatIsQuotedExists looks for them where the parts keep theirs,
// and in the tables that ship.
func TestEveryErrorTextThatIsQuotedExists(t *testing.T) {
	t.Parallel()
	known := set{}
	if err := eachSource([]string{"internal/problem", "login", "envoy"}, func(text string) {
		for _, m := range literal.FindAllStringSubmatch(text, -1) {
			known[m[1]] = true
		}
	}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"prefix", "explicit"} {
		text, err := os.ReadFile(filepath.Join(root, "envoy", "routes", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`detail: "?([^"}\n]+)`).FindAllStringSubmatch(string(text), -1) {
			known[strings.TrimSpace(m[1])] = true
		}
	}
	text := errorsText(t)
	for _, row := range table(t, text, "Answers of Envoy itself") {
		if len(row) < 3 || !known[row[1]] {
			t.Errorf("%s: Envoy never answers %q", errorsPage, row)
		}
	}
	for _, p := range pages(t) {
		for _, m := range detail.FindAllStringSubmatch(p.text, -1) {
			if m[1] != anything && !strings.Contains(m[1], "<") && !known[m[1]] {
				t.Errorf("%s: nobody answers %q", p.name, m[1])
			}
		}
	}
}
