package compose

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTheBuildContextHasEveryPackage finds a new directory of code that
// .dockerignore still keeps out, without building an image.
func TestTheBuildContextHasEveryPackage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	var allowed []string
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "!"); ok {
			allowed = append(allowed, name)
		}
	}
	list := exec.Command("go", "list", "-deps", "./cmd/authz", "./cmd/login", "./cmd/gatehouse")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/atenex/gatehouse/"
	found := 0
	for pkg := range strings.FieldsSeq(string(out)) {
		path, ours := strings.CutPrefix(pkg, module)
		if !ours {
			continue
		}
		found++
		if top, _, _ := strings.Cut(path, "/"); !slices.Contains(allowed, top) {
			t.Errorf("the images need %s, which .dockerignore keeps out of the build", path)
		}
	}
	if found == 0 {
		t.Error("go list named no package of ours")
	}
}
