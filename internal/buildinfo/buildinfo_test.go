package buildinfo_test

import (
	"os/exec"
	"strings"
	"testing"
)

// The linker ignores an -X that names no variable, so a renamed variable would
// turn every release into "devel" without a word. Only a linked binary shows it.
func TestBuildIsStamped(t *testing.T) {
	const pkg = "github.com/atenex/gatehouse/internal/buildinfo"
	tests := []struct {
		name    string
		ldflags string
		want    string
	}{
		{"an unstamped build says so", "", "devel unknown"},
		{"a stamped build names release and commit", "-X " + pkg + ".version=v1.2.3 -X " + pkg + ".revision=abc123-dirty", "v1.2.3 abc123-dirty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), "go", "run", "-buildvcs=false", "-ldflags", tt.ldflags, "./testdata/stamp").CombinedOutput()
			if err != nil {
				t.Fatalf("go run: %v\n%s", err, out)
			}
			if got := strings.TrimSpace(string(out)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
