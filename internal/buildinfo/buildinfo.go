// Package buildinfo says which build this is. It must never know anything else:
// no settings, no clock, no metrics.
package buildinfo

import "runtime/debug"

// The Makefile and the Dockerfile set these with
// -ldflags "-X github.com/atenex/gatehouse/internal/buildinfo.version=…".
// They are the only way to stamp a build, so they have to be variables; nothing
// writes to them at run time.
var (
	version  string
	revision string //nolint:gochecknoglobals // the linker sets it
)

const unknown = "unknown"

// Version is the release, such as "v1.4.0" or "v1.4.0-3-gabcdef0"; for a build
// that nobody stamped, the module's version as the go command recorded it, and
// "devel" where it recorded none.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// Revision is the commit that was built, with "-dirty" after it where the tree
// had changes, or "unknown".
func Revision() string {
	if revision != "" {
		return revision
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	return vcsRevision(info.Settings)
}

func vcsRevision(settings []debug.BuildSetting) string {
	var commit string
	var dirty bool
	for _, s := range settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if commit == "" {
		return unknown
	}
	if dirty {
		commit += "-dirty"
	}
	return commit
}
