// Package archtest holds the import table: who may know whom. It has tests only,
// and must never know what the packages do.
package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/atenex/gatehouse"

func TestImportsFollowTheTable(t *testing.T) {
	used := map[string]bool{}
	for _, f := range sources(t) {
		pkg := path.Dir(f.rel)
		at, ok := roomOf(pkg)
		if !ok {
			t.Errorf("%s: no row in rooms says whom %s may import", f.rel, pkg)
			continue
		}
		used[at.path] = true
		for _, imported := range f.imports {
			if lib, ok := libraryOf(imported); ok {
				used[lib.module] = true
			}
			if why := refuse(at, f, imported); why != "" {
				t.Errorf("%s imports %s: %s", f.rel, imported, why)
			}
		}
	}
	for _, r := range rooms {
		if !used[r.path] {
			t.Errorf("rooms has a row for %s, where no package is", r.path)
		}
	}
	for _, l := range libraries {
		if !used[l.module] {
			t.Errorf("libraries has a row for %s, which nobody imports", l.module)
		}
	}
}

// refuse gives the reason why f, which stands in room at, may not import a path,
// or "".
func refuse(at room, f source, imported string) string {
	rel, ours := strings.CutPrefix(imported, module+"/")
	switch {
	case ours:
		may := slices.Concat(leaves, []string{at.path}, at.may)
		if f.test {
			may = slices.Concat(may, at.tests, forTests)
		}
		if slices.Contains(leaves, at.path) && !f.test {
			may = at.may // a leaf knows no other, unless its row says so
		}
		if !slices.ContainsFunc(may, func(pattern string) bool { return within(pattern, rel) }) {
			return "its row in rooms does not list that"
		}
	case strings.Contains(firstElement(imported), "."):
		lib, ok := libraryOf(imported)
		if !ok {
			return "no row in libraries lists that module"
		}
		files := lib.files
		if f.test {
			files = slices.Concat(files, lib.tests)
		}
		if !slices.ContainsFunc(files, func(pattern string) bool { return names(pattern, f.rel) }) {
			return "its row in libraries does not list this file"
		}
	}
	return ""
}

// The table is only worth something if it refuses: these are the walls that the
// design rests on, asked for through the same door as the real imports.
func TestTableRefuses(t *testing.T) {
	const (
		envoyAPI = "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
		jwt      = "github.com/golang-jwt/jwt/v5"
		pgx      = "github.com/jackc/pgx/v5/pgxpool"
	)
	tests := []struct {
		name    string
		file    string
		imports string
		want    bool
	}{
		{"authz knows no SQL store", "authz/check.go", module + "/internal/postgres", true},
		{"nor do its tests", "authz/check_test.go", module + "/internal/postgres", true},
		{"authz knows no settings", "authz/check.go", module + "/internal/config", true},
		{"authz knows nothing of login", "authz/check.go", module + "/login", true},
		{"login knows nothing of authz", "login/login.go", module + "/authz", true},
		{"login knows no SQL store", "login/login.go", module + "/internal/postgres", true},
		{"only cmd knows the settings", "internal/postgres/open.go", module + "/internal/config", true},
		{"cmd does", "cmd/authz/main.go", module + "/internal/config", false},
		{"a leaf knows no other", "internal/problem/problem.go", module + "/internal/identity", true},
		{"but identity judges in the words of the problems", "internal/identity/admit.go", module + "/internal/problem", false},
		{"everybody knows the leaves", "internal/token/verify.go", module + "/internal/identity", false},
		{"no shipped code makes databases as tests do", "cmd/gatehouse/up.go", module + "/internal/postgres/postgrestest", true},
		{"tests do", "cmd/gatehouse/up_test.go", module + "/internal/postgres/postgrestest", false},
		{"nor asks how busy the machine is", "authz/check.go", module + "/internal/starved", true},
		{"which tests do", "authz/check_test.go", module + "/internal/starved", false},
		{"Envoy's messages stop at a few files of authz", "authz/policy.go", envoyAPI, true},
		{"which read the request", "authz/request.go", envoyAPI, false},
		{"the route table knows no Envoy", "envoy/routes/read.go", envoyAPI, true},
		{"nor the renderer", "envoy/routes/read.go", module + "/envoy", true},
		{"which knows both", "envoy/bootstrap.go", envoyAPI, false},
		{"token libraries stop at internal/token", "login/login.go", jwt, true},
		{"and even tests elsewhere go through it", "authz/check_test.go", jwt, true},
		{"drivers stop at internal/postgres", "authz/check.go", pgx, true},
		{"a library that nobody listed is refused", "cmd/authz/main.go", "example.com/unheard/of", true},
		{"a module's name as a prefix is another module", "internal/token/verify.go", jwt + "x", true},
		{"the standard library is free", "authz/check.go", "encoding/json", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at, ok := roomOf(path.Dir(tt.file))
			if !ok {
				t.Fatalf("no room for %s", tt.file)
			}
			f := source{rel: tt.file, test: strings.HasSuffix(tt.file, "_test.go")}
			if why := refuse(at, f, tt.imports); (why != "") != tt.want {
				t.Errorf("refuse(%s imports %s) = %q, want refused: %v", tt.file, tt.imports, why, tt.want)
			}
		})
	}
}

// within reports whether a package lies in a room.
func within(pattern, rel string) bool {
	if dir, deep := strings.CutSuffix(pattern, "/..."); deep {
		return rel == dir || strings.HasPrefix(rel, dir+"/")
	}
	return rel == pattern
}

// names reports whether a pattern of libraries covers a file.
func names(pattern, file string) bool {
	if pattern == "..." {
		return true
	}
	if strings.HasSuffix(pattern, "/...") {
		return within(pattern, path.Dir(file))
	}
	if dir, flat := strings.CutSuffix(pattern, "/*"); flat {
		return path.Dir(file) == dir
	}
	return pattern == file
}

// roomOf finds the most specific row for a package.
func roomOf(rel string) (room, bool) {
	var best room
	found := false
	for _, r := range rooms {
		if within(r.path, rel) && (!found || len(r.path) > len(best.path)) {
			best, found = r, true
		}
	}
	return best, found
}

func libraryOf(imported string) (library, bool) {
	for _, l := range libraries {
		if imported == l.module || strings.HasPrefix(imported, l.module+"/") {
			return l, true
		}
	}
	return library{}, false
}

func firstElement(imported string) string {
	first, _, _ := strings.Cut(imported, "/")
	return first
}

type source struct {
	rel     string // from the module's root, with slashes
	test    bool
	imports []string
}

// sources reads the imports of every Go file of the module, whatever system it is
// for: a wall that stands only on Linux is none. It walks the tree itself, since
// the go command does not see that a test depends on what `go list` saw, and
// would answer from its cache after a file was added.
func sources(t *testing.T) []source {
	t.Helper()
	const root = "../.."
	var all []source
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return enter(root, name)
		case filepath.Ext(name) != ".go":
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		f := source{rel: filepath.ToSlash(rel), test: strings.HasSuffix(name, "_test.go")}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, imported)
		}
		all = append(all, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go file below the module's root")
	}
	return all
}

// enter skips the directories that the go command leaves out of "./...".
func enter(root, name string) error {
	base := filepath.Base(name)
	if name == root {
		return nil
	}
	if base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}
