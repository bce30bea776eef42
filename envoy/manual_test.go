package envoy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
)

var snippet = regexp.MustCompile("(?s)(?:<!-- refused: ([^\n]*) -->\n)?```yaml\n(.*?)```")

// TestEnvoyTakesTheTablesOfTheManual keeps docs/routes.md true, where package
// routes leaves off.
func TestEnvoyTakesTheTablesOfTheManual(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile(filepath.Join("..", "docs", "routes.md"))
	if err != nil {
		t.Fatal(err)
	}
	snippets := snippet.FindAllStringSubmatch(string(manual), -1)
	if len(snippets) < 3 {
		t.Fatalf("%d snippets", len(snippets))
	}
	for _, s := range snippets {
		refused, text := s[1] != "", s[2]
		table, err := routes.Parse([]byte(text))
		if refused {
			continue // package routes asks why
		}
		if err != nil {
			t.Errorf("%s\n%v", text, err)
			continue
		}
		b, err := envoy.Bootstrap(table, envoy.DefaultSettings())
		if err != nil {
			t.Fatal(err)
		}
		config, err := envoy.YAML(b)
		if err != nil {
			t.Fatal(err)
		}
		// Its CA is on no machine of ours.
		config = []byte(strings.ReplaceAll(string(config), "/etc/gatehouse/internal-ca.pem", envoy.DefaultSettings().CAFile))
		if err := envoy.Validate(t.Context(), binary(t), config); err != nil {
			t.Error(err)
		}
	}
}
