package devstack_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/devstack"
)

// program writes an executable script that answers --version with a line.
func program(t *testing.T, path, version string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+version+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func envoyProgram(t *testing.T, path, version string) string {
	return program(t, path, "envoy  version: 9e5580/"+version+"/Clean/RELEASE/BoringSSL")
}

// reachable is a directory that another user can get to, which root's
// t.TempDir may not be.
func reachable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "gatehouse-find-test-*") //nolint:usetesting // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAnEnvoyThatASettingNamesIsUsedOrIsAnError(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	// A good one on PATH must not be taken in its place.
	t.Setenv("PATH", filepath.Dir(envoyProgram(t, filepath.Join(dir, "path", "envoy"), "1.39.3")))
	for _, c := range []struct {
		name, value string
		want        string // the version, or a part of the error
	}{
		{"a supported version is used", envoyProgram(t, filepath.Join(dir, "good"), "1.38.0"), "1.38.0"},
		{"a development build counts as its version", envoyProgram(t, filepath.Join(dir, "dev"), "1.40.1-dev"), "1.40.1"},
		{"a bare name is looked up on PATH", "envoy", "1.39.3"},
		{"a missing file is an error", filepath.Join(dir, "nowhere"), "no such file"},
		{"a directory is an error", dir, "is a directory"},
		{"a file that is not executable is an error", text, "permission denied"},
		{"a version without error_response is an error", envoyProgram(t, filepath.Join(dir, "old"), "1.36.4"), "it is Envoy 1.36.4; supported are 1.37 to 1.40"},
		{"a version newer than any tested is an error", envoyProgram(t, filepath.Join(dir, "new"), "1.41.0"), "supported are 1.37 to 1.40"},
		{"another program is an error", program(t, filepath.Join(dir, "other"), "nginx/1.2"), "not that of an Envoy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := devstack.EnvoyBinary(t.Context(), devstack.FindOptions{EnvoyBin: c.value, CacheDir: t.TempDir(), Offline: true})
			if err != nil {
				if !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "ENVOY_BIN="+c.value) {
					t.Errorf("error %q, want one of ENVOY_BIN with %q", err, c.want)
				}
				return
			}
			if got.Version != c.want || got.Source != "ENVOY_BIN" {
				t.Errorf("got %+v, want version %s from ENVOY_BIN", got, c.want)
			}
		})
	}
}

func TestEnvoyComesFromTheCacheBeforePATHAndNeverUnsupported(t *testing.T) {
	dir := t.TempDir()
	envoyProgram(t, filepath.Join(dir, "path", "envoy"), "1.39.3")
	envoyProgram(t, filepath.Join(dir, "old", "envoy"), "1.30.0")
	for _, c := range []struct {
		name, cached, path string
		want               string // source, or part of the error
	}{
		{"the cached one wins", "1.40.0", "path", "cache"},
		{"a damaged cache gives way to PATH", "damaged", "path", "PATH"},
		{"PATH serves without a cache", "", "path", "PATH"},
		{"an old one on PATH is passed over", "", "old", "it is Envoy 1.30.0"},
		{"nothing anywhere names the ways out", "", "none", "func-e"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("PATH", filepath.Join(dir, c.path))
			cache := t.TempDir()
			if c.cached != "" {
				envoyProgram(t, devstack.CachedEnvoy(cache), c.cached)
			}
			found := devstack.FindEnvoy(t.Context(), devstack.FindOptions{CacheDir: cache, Offline: true})
			got := found.Binary.Source
			if found.Err != nil {
				got = found.Err.Error()
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q; looked at %+v", got, c.want, found.Looked)
			}
			if found.Err == nil && found.Looked[len(found.Looked)-1].Why != "" {
				t.Errorf("the last place is not the one taken: %+v", found.Looked)
			}
		})
	}
}

func postgresPrograms(t *testing.T, dir, version string) string {
	t.Helper()
	program(t, filepath.Join(dir, "postgres"), "postgres (PostgreSQL) "+version)
	program(t, filepath.Join(dir, "initdb"), "initdb (PostgreSQL) "+version)
	return dir
}

func TestAPostgresThatASettingNamesIsUsedOrIsAnError(t *testing.T) {
	dir := reachable(t)
	good := postgresPrograms(t, filepath.Join(dir, "good"), "15.14 (Debian 15.14-0+deb12u1)")
	for _, c := range []struct {
		name, value string
		want        string
	}{
		{"a directory is used", good, "15.14"},
		{"a program stands for its directory", filepath.Join(good, "postgres"), "15.14"},
		{"a missing directory is an error", filepath.Join(dir, "nowhere"), "no such file"},
		{"a directory without PostgreSQL is an error", dir, "no such file"},
		{"an old version is an error", postgresPrograms(t, filepath.Join(dir, "old"), "12.3"), "it is PostgreSQL 12.3; supported is 13 and newer"},
		{"another file is an error", program(t, filepath.Join(dir, "psql"), "psql (PostgreSQL) 15.1"), "not the directory"},
		{"a beta counts as its version", postgresPrograms(t, filepath.Join(dir, "beta"), "19beta1"), "19beta1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := devstack.PostgresBinaries(t.Context(), devstack.FindOptions{PostgresBin: c.value, CacheDir: t.TempDir(), Offline: true})
			if err != nil {
				if !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "PG_BIN="+c.value) {
					t.Errorf("error %q, want one of PG_BIN with %q", err, c.want)
				}
				return
			}
			if got.Version != c.want || got.Path == "" || got.Source != "PG_BIN" {
				t.Errorf("got %+v, want version %s from PG_BIN", got, c.want)
			}
		})
	}
}

func TestRootPassesOverAPostgresThatItsServerCannotReach(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root changes the user")
	}
	dir := reachable(t)
	bin := postgresPrograms(t, filepath.Join(dir, "closed", "bin"), "15.1")
	if err := os.Chmod(filepath.Join(dir, "closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := devstack.PostgresBinaries(t.Context(), devstack.FindOptions{PostgresBin: bin})
	if want := "cannot enter " + filepath.Join(dir, "closed"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestTheNewestInstalledPostgresIsFoundByNumber(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"9.6", "13", "9", "15", "common"} {
		if err := os.Mkdir(filepath.Join(dir, v), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	got := strings.Join(devstack.SystemPostgres(dir), " ")
	want := strings.ReplaceAll("D/15/bin D/13/bin D/9/bin", "D", dir)
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTheRealEnvoyIsFoundOrFetched(t *testing.T) {
	got, err := devstack.EnvoyBinary(t.Context(), devstack.FindOptions{EnvoyBin: os.Getenv("ENVOY_BIN"), Notice: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(got.Path); err != nil || info.Size() < 1<<20 {
		t.Errorf("%+v is no Envoy: %v", got, err)
	}
}

func TestProcessesThatFetchAtOnceShareOneCopy(t *testing.T) {
	// The smaller of the two, from a cache of this test's own.
	cache := reachable(t)
	errs := make(chan error, 3)
	fetches := make(chan string, 3)
	for range cap(errs) {
		go func() {
			errs <- devstack.FetchPostgres(context.WithoutCancel(t.Context()), cache, func(s string) { fetches <- s })
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := len(fetches); n != 1 {
		t.Errorf("fetched %d times, want once", n)
	}
	startPostgres(t, devstack.CachedPostgres(cache), stateDir(t)) // it is whole: a server runs from it
	left, err := filepath.Glob(filepath.Join(cache, ".fetch-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// up looks for both programs at once and gives up both where one is not there:
// what the other search could not try any more is no reason to fetch.
func TestASearchThatIsCalledOffFetchesNothing(t *testing.T) {
	cause := errors.New("the other one is not there")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	notice := func(s string) { t.Errorf("it went on: %s", s) }
	for name, find := range map[string]func(context.Context, devstack.FindOptions) (devstack.Binary, error){
		"Envoy": devstack.EnvoyBinary, "PostgreSQL": devstack.PostgresBinaries,
	} {
		_, err := find(ctx, devstack.FindOptions{CacheDir: reachable(t), Notice: notice})
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v, want %v", name, err, cause)
		}
	}
}
