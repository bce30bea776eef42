package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/config/settingsdoc"
)

func TestGen(t *testing.T) {
	stale := settingsdoc.Begin + "\nold\n" + settingsdoc.End + "\n"
	fresh := settingsdoc.Begin + "\n" + settingsdoc.Markdown() + settingsdoc.End + "\n"
	for _, tc := range []struct {
		name       string
		flags      []string
		document   string
		wantCode   int
		wantStderr string
		wantAfter  string
	}{
		{"a stale file is rewritten", nil, stale, 0, "", fresh},
		{"a fresh file stays", nil, fresh, 0, "", fresh},
		{"a check finds a stale file and leaves it", []string{"-check"}, stale, 1, "is stale", stale},
		{"a check passes a fresh file", []string{"-check"}, fresh, 0, "", fresh},
		{"a file without markers is left", nil, "text\n", 1, "not there exactly once", "text\n"},
		{"an unknown flag is wrong use", []string{"-force"}, stale, 2, "usage:", stale},
		{"a second file is wrong use", []string{"other"}, stale, 2, "usage:", stale},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "README.md")
			if err := os.WriteFile(name, []byte(tc.document), 0o600); err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			code := run(append(tc.flags, name), &stderr)
			after, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if code != tc.wantCode || !strings.Contains(stderr.String(), tc.wantStderr) || string(after) != tc.wantAfter {
				t.Errorf("code %d, stderr %q, file %q; want %d, %q, %q", code, stderr.String(), after, tc.wantCode, tc.wantStderr, tc.wantAfter)
			}
		})
	}
	if code := run([]string{filepath.Join(t.TempDir(), "missing")}, &bytes.Buffer{}); code != 1 {
		t.Errorf("a missing file: code %d, want 1", code)
	}
}
