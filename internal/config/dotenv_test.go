package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/atenex/gatehouse/internal/config"
)

func TestDotEnv(t *testing.T) {
	for _, tc := range []struct {
		name    string
		content string
		environ []string
		want    string // project name
	}{
		{"plain", "GATEWAY_PROJECT_NAME=Plain\n", nil, "Plain"},
		{"no final line break", "GATEWAY_PROJECT_NAME=Plain", nil, "Plain"},
		{"byte order mark and CRLF", "\xef\xbb\xbfGATEWAY_PROJECT_NAME=Plain\r\nGATEWAY_LOG_LEVEL=DEBUG\r\n", nil, "Plain"},
		{"export, comments and blanks", "# note\n\n  export  GATEWAY_PROJECT_NAME = Plain # why\n", nil, "Plain"},
		{"double quotes", `GATEWAY_PROJECT_NAME="With # and = in it" # why`, nil, "With # and = in it"},
		{"single quotes keep dollars", `GATEWAY_PROJECT_NAME='a$B$C'`, nil, "a$B$C"},
		{"a reference to a name of the file", "BASE=Plain\nGATEWAY_PROJECT_NAME=${BASE}er\n", nil, "Plainer"},
		{"a dollar before lower case stays", "GATEWAY_PROJECT_NAME=a$b", nil, "a$b"},
		{"an escaped dollar stays", `GATEWAY_PROJECT_NAME="a\$B"`, nil, "a$B"},
		{"a lost dollar elsewhere is none of ours", "OTHER=a$B\nGATEWAY_PROJECT_NAME=Plain", nil, "Plain"},
		{"the last of several lines counts", "GATEWAY_PROJECT_NAME=One\nGATEWAY_PROJECT_NAME=Two\n", nil, "Two"},
		{"the environment wins", "GATEWAY_PROJECT_NAME=File", []string{"GATEWAY_PROJECT_NAME=Environ"}, "Environ"},
		{"the environment wins when it is empty", "GATEWAY_PROJECT_NAME=File", []string{"GATEWAY_PROJECT_NAME="}, "Gatehouse"},
		{"nothing in it", "", nil, "Gatehouse"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, ".env"), tc.content)
			s, _ := mustLoad(t, config.Source{Environ: tc.environ, Dir: dir}, config.NeedDatabase)
			if s.ProjectName != tc.want {
				t.Errorf("project name %q, want %q", s.ProjectName, tc.want)
			}
		})
	}
}

func TestDotEnvHidesAFileFormOnlyByName(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, ".env"), "GATEWAY_JWT_SECRET_FILE=/nonexistent\n")
	s, _ := mustLoad(t, config.Source{Environ: complete(), Dir: dir}, needAll)
	if got := s.Tokens.Secret.Reveal(); got != testSecret {
		t.Errorf("secret %q, want the environment's", got)
	}
}

func TestFaultyDotEnv(t *testing.T) {
	for _, tc := range []struct {
		name    string
		content string
		want    string
	}{
		{"a line without =", "A=1\nB=2\nnonsense\nC=3\n", ".env: cannot be parsed from line 3 on; "},
		{"a last line without =", "A=1\nnonsense", ".env: cannot be parsed from line 2 on; "},
		{"an open quote", "A=1\nB=\"two\nlines\"\nGATEWAY_JWT_SECRET='open-test-word\nC=1\n", ".env: cannot be parsed from line 4 on; "},
		{"another shell's syntax", "setenv GATEWAY_PROJECT_NAME=x\n", ".env: cannot be parsed from line 1 on; "},
		{"text after a quote", "A='1'x\nB=2\n", ".env: cannot be parsed from line 1 on; "},
		{"UTF-16", "\xff\xfeG\x00A\x00", ".env: is not UTF-8 text"},
		{"a NUL", "A=1\x00\n", ".env: is not UTF-8 text"},
		{"a dollar that would be lost", "GATEWAY_POSTGRES_PASSWORD=open$TEST-word", ".env: the value of GATEWAY_POSTGRES_PASSWORD refers with $ to a name that the file does not set; "},
		{"a dollar in double quotes that would be lost", `GATEWAY_JWT_SECRET="open${TEST}word"`, ".env: the value of GATEWAY_JWT_SECRET refers with $ "},
		{"too large", strings.Repeat("# much\n", 1<<18), ".env: is a file of more than 1024 KiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, ".env"), tc.content)
			got := faults(t, config.Source{Environ: complete(), Dir: dir}, needAll)
			if len(got) != 1 || !strings.HasPrefix(got[0], tc.want) {
				t.Fatalf("faults %q, want %q", got, tc.want)
			}
			if strings.Contains(got[0], "TEST") || strings.Contains(got[0], "word") {
				t.Errorf("%q quotes the file", got[0])
			}
		})
	}
}

func TestAFaultyDotEnvHidesWhatSeemsMissing(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, ".env"), "nonsense\nGATEWAY_JWT_SECRET="+testSecret+"\n")
	got := faults(t, config.Source{Environ: []string{"GATEWAY_LOG_LEVEL=x"}, Dir: dir}, needAll)
	matching(t, "fault", got, []string{".env: cannot be parsed from line 1 on; ", "GATEWAY_LOG_LEVEL: "})
}

func TestDotEnvThatIsNoFile(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(name string) error
		want []string
	}{
		{"missing", func(string) error { return nil }, nil},
		{"a directory", func(name string) error { return os.Mkdir(name, 0o700) }, []string{".env: is something that is not a regular file"}},
		{"a pipe, which would hang", func(name string) error { return syscall.Mkfifo(name, 0o600) }, []string{".env: is something that is not a regular file"}},
		{"a link to nowhere", func(name string) error { return os.Symlink("nowhere", name) }, []string{".env: is a file that cannot be read: no such file or directory"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := tc.make(filepath.Join(dir, ".env")); err != nil {
				t.Fatal(err)
			}
			got := faults(t, config.Source{Environ: complete(), Dir: dir}, needAll)
			if !slices.Equal(got, tc.want) {
				t.Errorf("faults %q, want %q", got, tc.want)
			}
		})
	}
	if os.Getuid() == 0 {
		return // root reads everything
	}
	t.Run("unreadable", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(write(t, filepath.Join(dir, ".env"), "A=1"), 0); err != nil {
			t.Fatal(err)
		}
		got := faults(t, config.Source{Environ: complete(), Dir: dir}, needAll)
		if want := []string{".env: is a file that cannot be read: permission denied"}; !slices.Equal(got, want) {
			t.Errorf("faults %q, want %q", got, want)
		}
	})
}
