package devstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

var (
	// "envoy  version: 9e55.../1.40.0/Clean/RELEASE/BoringSSL"
	envoyVersionText = regexp.MustCompile(`version: [0-9a-f]*/(\d+)\.(\d+)\.(\d+)[^/]*/`)
	// "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", "... 19beta1"
	postgresVersionText = regexp.MustCompile(`\(PostgreSQL\) ((\d+)(?:\.\d+|[a-z]+\d+)?)`)
)

// envoyVersion is the version of the program at path, or why it is of no use.
func envoyVersion(ctx context.Context, path string) (string, error) {
	if err := executable(path); err != nil {
		return "", err
	}
	out, err := quickOutput(ctx, path, "--version")
	if err != nil {
		return "", err
	}
	m := envoyVersionText.FindStringSubmatch(out)
	if m == nil {
		return "", errors.New("its --version is not that of an Envoy")
	}
	version := m[1] + "." + m[2] + "." + m[3]
	minor, err := strconv.Atoi(m[2])
	if err != nil || m[1] != "1" || minor < envoyMinMinor || minor > envoyMaxMinor {
		return "", fmt.Errorf("it is Envoy %s; supported are 1.%d to 1.%d", version, envoyMinMinor, envoyMaxMinor)
	}
	return version, nil
}

// postgresVersion is the version of the servers in dir, or why they are of no
// use here.
func postgresVersion(ctx context.Context, dir string) (string, error) {
	var version string
	for _, program := range []string{"initdb", "postgres"} {
		path := filepath.Join(dir, program)
		if err := executable(path); err != nil {
			return "", err
		}
		out, err := quickOutput(ctx, path, "--version")
		if err != nil {
			return "", err
		}
		m := postgresVersionText.FindStringSubmatch(out)
		if m == nil {
			return "", fmt.Errorf("the --version of %s is not that of PostgreSQL", path)
		}
		if major, err := strconv.Atoi(m[2]); err != nil || major < postgresMinMajor {
			return "", fmt.Errorf("it is PostgreSQL %s; supported is %d and newer", m[1], postgresMinMajor)
		}
		if version != "" && version != m[1] {
			return "", fmt.Errorf("its initdb is %s but its postgres %s", version, m[1])
		}
		version = m[1]
	}
	user, err := serverUser()
	if err != nil {
		return "", err
	}
	if err := user.reaches(dir); err != nil {
		return "", err
	}
	return version, nil
}

func executable(path string) error {
	switch info, err := os.Stat(path); {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", path)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not executable", path)
	}
	return nil
}

// postgresDir reads a PG_BIN: the directory, or one of the programs in it.
func postgresDir(value string) (string, error) {
	info, err := os.Stat(value)
	if err != nil {
		return "", err
	}
	if info.IsDir() {
		return value, nil
	}
	if base := filepath.Base(value); base != "postgres" && base != "initdb" {
		return "", errors.New("not the directory that holds postgres and initdb")
	}
	target, err := filepath.EvalSymlinks(value)
	if err != nil {
		return "", err
	}
	return filepath.Dir(target), nil
}

// systemPostgres lists root's <version>/bin directories, newest version first:
// 15 comes before 9, which a sort by name would turn round.
func systemPostgres(root string) []string {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil
	}
	type install struct {
		major int
		dir   string
	}
	var installs []install
	for _, e := range entries {
		if major, err := strconv.Atoi(e.Name()); err == nil {
			installs = append(installs, install{major, filepath.Join(root, e.Name(), "bin")})
		}
	}
	slices.SortFunc(installs, func(a, b install) int { return cmp.Compare(b.major, a.major) })
	dirs := make([]string, len(installs))
	for i, in := range installs {
		dirs[i] = in.dir
	}
	return dirs
}
