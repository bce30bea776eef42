package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheCommandsOfTheManualRun takes the commands of docs/routes.md, one after
// the other, with its first table as routes.yaml.
func TestTheCommandsOfTheManualRun(t *testing.T) {
	manual, err := os.ReadFile(filepath.Join("..", "..", "docs", "routes.md"))
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(manual)
	commands := regexp.MustCompile(`(?m)^\$ gatehouse ([^>\n]*?)(?: > (\S+))?$`).FindAllSubmatch(manual, -1)
	if table == nil || len(commands) < 4 {
		t.Fatalf("the manual has %d commands", len(commands))
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("routes.yaml", table[1], 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"GATEWAY_INGEST_SERVICE_URL=http://ingest", "GATEWAY_QUERY_SERVICE_URL=http://query"}
	for _, c := range commands {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(string(c[1])), environ, strings.NewReader(""), &out, &errs); code != exitFine || out.Len() == 0 || errs.Len() != 0 {
			t.Errorf("gatehouse %s: exit code %d, %s%s", c[1], code, out.Bytes(), errs.Bytes())
		}
		if len(c[2]) > 0 {
			if err := os.WriteFile(string(c[2]), out.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}
