package devstack_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/devstack"
)

func TestAReleaseOfEnvoyIsExactlyThatOne(t *testing.T) {
	newest := devstack.EnvoyReleases()[len(devstack.EnvoyReleases())-1]
	t.Setenv("PATH", filepath.Dir(envoyProgram(t, filepath.Join(t.TempDir(), "envoy"), "1.37.0")))
	for _, c := range []struct {
		name, asked, cached string
		want                string // the source, or a part of the error
	}{
		{"the one in the cache", "1.37.0", "1.37.0", "cache"},
		{"the newest is the one that up fetches", newest, newest, "cache"},
		{"another patch in the cache is not taken", "1.38.3", "1.38.0", "it is Envoy 1.38.0, not 1.38.3"},
		{"the one on PATH is not looked at", "1.37.0", "", "no usable Envoy 1.37.0"},
		{"one that is not pinned", "1.36.4", "", "no Envoy 1.36.4 is pinned"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := t.TempDir()
			if c.cached != "" {
				at := filepath.Join(cache, fmt.Sprintf("envoy-%s-%s-%s", c.asked, runtime.GOOS, runtime.GOARCH), "envoy")
				envoyProgram(t, at, c.cached)
			}
			got, err := devstack.EnvoyRelease(t.Context(), c.asked, devstack.FindOptions{CacheDir: cache, Offline: true})
			said := got.Source
			if err != nil {
				said = err.Error()
			} else if got.Version != c.asked {
				t.Errorf("version %s, want %s", got.Version, c.asked)
			}
			if !strings.Contains(said, c.want) {
				t.Errorf("got %q, want %q", said, c.want)
			}
		})
	}
}
