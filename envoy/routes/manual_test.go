package routes_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/envoy/routes"
)

var snippet = regexp.MustCompile("(?s)(?:<!-- refused: ([^\n]*) -->\n)?```yaml\n(.*?)```")

// TestTheTablesOfTheManualAreJudgedAsItSays keeps docs/routes.md true.
func TestTheTablesOfTheManualAreJudgedAsItSays(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile(filepath.Join("..", "..", "docs", "routes.md"))
	if err != nil {
		t.Fatal(err)
	}
	schema := tableSchema(t)
	snippets := snippet.FindAllStringSubmatch(string(manual), -1)
	if len(snippets) < 3 {
		t.Fatalf("%d snippets", len(snippets))
	}
	for _, s := range snippets {
		refused, text := s[1], s[2]
		_, err := routes.Parse([]byte(text))
		if refused != "" {
			if err == nil || !strings.Contains(err.Error(), refused) {
				t.Errorf("%s\nis judged %v, want %q", text, err, refused)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s\n%v", text, err)
			continue
		}
		if err := bySchema(t, schema, text); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
	// Every key that the reader knows is in the manual.
	for _, key := range regexp.MustCompile(`(?m)^ +"([a-z_0-9]+)": +y\.|^ +"([a-z_0-9]+)": func`).FindAllStringSubmatch(source(t, "read.go"), -1) {
		if name := key[1] + key[2]; !strings.Contains(string(manual), name) {
			t.Errorf("the manual does not mention %s", name)
		}
	}
}

func source(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\t", "  ")
}
