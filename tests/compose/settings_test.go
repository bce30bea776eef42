package compose

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// fixed are the settings that the compose file gives itself, by addresses of its
// own network, and those of its own database.
var fixed = regexp.MustCompile(`^GATEWAY_(DATABASE_URL|POSTGRES_(SERVER|PORT|DB|USER|PASSWORD|SSLMODE)|\w*LISTEN|JWT_SECRET)$`)

// TestEverySettingIsPassedOn holds the compose file to the table of settings:
// one that is in .env and goes nowhere is a mistake that nobody notices.
func TestEverySettingIsPassedOn(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docker-compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Environment map[string]any `json:"environment"`
		} `json:"services"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile(filepath.Join(root, "docs", "settings.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(GATEWAY_\\w+)`[^|]*\\|[^|]*\\| ([a-z, ]+) \\|").FindAllStringSubmatch(string(manual), -1)
	if len(rows) < 50 {
		t.Fatalf("the manual has %d settings", len(rows))
	}
	services := map[string]string{"authz": "authz", "login": "login", "envoy": "envoy-config"}
	for _, row := range rows {
		readers := strings.Split(row[2], ", ")
		for reader, service := range services {
			if fixed.MatchString(row[1]) || !slices.Contains(readers, reader) && row[2] != "all" {
				continue
			}
			if _, passed := file.Services[service].Environment[row[1]]; !passed {
				t.Errorf("%s is not passed on to %s", row[1], service)
			}
		}
	}
}
