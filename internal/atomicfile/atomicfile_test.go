package atomicfile_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/atenex/gatehouse/internal/atomicfile"
)

func TestWriteReplacesTheContentAndTheMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, want := range []struct {
		text string
		mode fs.FileMode
	}{{"first", 0o600}, {"second", 0o644}} {
		if err := atomicfile.Write(path, []byte(want.text), want.mode); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || string(text) != want.text || info.Mode().Perm() != want.mode {
			t.Errorf("got %q %v (%v, %v), want %q %v", text, info.Mode(), err, statErr, want.text, want.mode)
		}
	}
}

func TestAWriteThatFailsLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(path, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(path, []byte("x"), 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v (%v), want what was there before", entries, err)
	}
	if err := atomicfile.Write(filepath.Join(dir, "none", "file"), nil, 0o600); err == nil {
		t.Error("a file was written where there is no directory")
	}
}
