package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/config"
)

const (
	testSecret  = "test-secret-made-of-obvious-words-only"
	placeholder = "YOUR_DEFAULT_JWT_SECRET_KEY_CHANGE_ME_IN_ENV_OR_SECRET"
	needAll     = config.NeedAuthz | config.NeedLogin | config.NeedEnvoy
)

// complete is an environment that every binary accepts, and what is added.
func complete(more ...string) []string {
	return append([]string{
		"PATH=/bin",
		"GATEWAY_JWT_SECRET=" + testSecret,
		"GATEWAY_INGEST_SERVICE_URL=http://ingest:8000",
		"GATEWAY_QUERY_SERVICE_URL=https://query.example",
	}, more...)
}

func mustLoad(t *testing.T, src config.Source, need config.Need) (*config.Settings, []string) {
	t.Helper()
	s, warnings, err := config.Load(src, need)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return s, warnings
}

// faults loads and returns one line for each fault, nil for none.
func faults(t *testing.T, src config.Source, need config.Need) []string {
	t.Helper()
	s, _, err := config.Load(src, need)
	if err == nil {
		return nil
	}
	var f config.Faults
	if !errors.As(err, &f) || len(f) == 0 || s != nil {
		t.Fatalf("Load gave settings %v with error %T, want none and Faults", s, err)
	}
	return strings.Split(err.Error(), "\n")
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestWhatEachBinaryNeeds(t *testing.T) {
	const (
		secret  = "GATEWAY_JWT_SECRET: is not set; HS256 needs it"
		ingest  = "GATEWAY_INGEST_SERVICE_URL: is not set"
		query   = "GATEWAY_QUERY_SERVICE_URL: is not set"
		public  = "GATEWAY_JWT_PUBLIC_KEY: is not set, nor is GATEWAY_JWT_PRIVATE_KEY; EdDSA needs one of them"
		private = "GATEWAY_JWT_PRIVATE_KEY: is not set; signing with EdDSA needs it"
	)
	for _, tc := range []struct {
		name    string
		environ []string
		need    config.Need
		want    []string
	}{
		{"authz reads tokens", nil, config.NeedAuthz, []string{secret}},
		{"login reads tokens", nil, config.NeedLogin, []string{secret}},
		{"token inspect reads tokens", nil, config.NeedVerify, []string{secret}},
		{"token mint makes tokens", nil, config.NeedSign, []string{secret}},
		{"Envoy needs its two upstreams and no secret", nil, config.NeedEnvoy, []string{ingest, query}},
		{"migrate needs nothing", nil, config.NeedDatabase, nil},
		{"up needs nothing at first", nil, config.NeedUp, nil},
		{"all of it at once, in the manual's order", nil, needAll, []string{ingest, query, secret}},
		{"authz verifies with a key pair", []string{"GATEWAY_JWT_ALGORITHM=EdDSA"}, config.NeedAuthz, []string{public}},
		{"login signs with a private key", []string{"GATEWAY_JWT_ALGORITHM=EdDSA"}, config.NeedLogin, []string{private}},
		{"a secret does not stand in for a key pair", []string{"GATEWAY_JWT_ALGORITHM=EdDSA", "GATEWAY_JWT_SECRET=" + testSecret}, config.NeedAuthz, []string{public}},
		{"login does not sign with a public key", []string{"GATEWAY_JWT_ALGORITHM=EdDSA", "GATEWAY_JWT_PUBLIC_KEY=" + publicPEM}, config.NeedLogin, []string{private}},
		{"authz verifies with a public key", []string{"GATEWAY_JWT_ALGORITHM=EdDSA", "GATEWAY_JWT_PUBLIC_KEY=" + publicPEM}, config.NeedAuthz, nil},
		{"authz verifies with a private key", []string{"GATEWAY_JWT_ALGORITHM=EdDSA", "GATEWAY_JWT_PRIVATE_KEY=" + privatePEM}, config.NeedAuthz, nil},
		{"a wrong algorithm does not hide a missing secret", []string{"GATEWAY_JWT_ALGORITHM=none"}, config.NeedAuthz, []string{"GATEWAY_JWT_SECRET: is not set; HS* needs it", "GATEWAY_JWT_ALGORITHM: \"none\" is not HS256, "}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := faults(t, config.Source{Environ: tc.environ}, tc.need)
			if len(got) != len(tc.want) {
				t.Fatalf("faults:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tc.want[i]) {
					t.Errorf("fault %d: %s\nwant: %s", i, got[i], tc.want[i])
				}
			}
		})
	}
}

func TestAWrongValueIsRefusedByEveryBinary(t *testing.T) {
	for _, need := range []config.Need{config.NeedAuthz, config.NeedLogin, config.NeedEnvoy, config.NeedDatabase, config.NeedVerify, config.NeedSign, config.NeedUp} {
		got := faults(t, config.Source{Environ: complete("GATEWAY_HTTP_CLIENT_TIMEOUT=soon", "GATEWAY_POSTGRES_PORT=x")}, need)
		want := []string{
			`GATEWAY_HTTP_CLIENT_TIMEOUT: "soon" is not a number of seconds from 0.001 to 86400, such as 60 or 0.5`,
			`GATEWAY_POSTGRES_PORT: "x" is not a port number (1 to 65535)`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v: faults %q, want %q", need, got, want)
		}
	}
}

func TestSecretsFromFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "good"), testSecret+"\n")
	write(t, filepath.Join(dir, "windows"), testSecret+"\r\n")
	write(t, filepath.Join(dir, "two-breaks"), testSecret+"\n\n")
	write(t, filepath.Join(dir, "empty"), "")
	write(t, filepath.Join(dir, "break-only"), "\n")
	write(t, filepath.Join(dir, "short"), "short")
	write(t, filepath.Join(dir, "large"), strings.Repeat("a", 64<<10+1))
	write(t, filepath.Join(dir, "database"), "postgres://u:test-word@db/x\n")
	const file = "GATEWAY_JWT_SECRET_FILE="
	for _, tc := range []struct {
		name       string
		environ    []string
		wantFault  string
		wantSecret string
	}{
		{"a final line break is dropped", []string{file + filepath.Join(dir, "good")}, "", testSecret},
		{"a relative name is under the directory", []string{file + "good"}, "", testSecret},
		{"a final CRLF is dropped", []string{file + "windows"}, "", testSecret},
		{"only one line break is dropped", []string{file + "two-breaks"}, "", testSecret + "\n"},
		{"an empty value beside the file counts as none", []string{file + "good", "GATEWAY_JWT_SECRET="}, "", testSecret},
		{"an empty file name counts as none", []string{file, "GATEWAY_JWT_SECRET=" + testSecret}, "", testSecret},
		{"both forms", []string{file + "good", "GATEWAY_JWT_SECRET=" + testSecret}, "GATEWAY_JWT_SECRET: is set together with GATEWAY_JWT_SECRET_FILE; only one of them can count", ""},
		{"no such file", []string{file + "missing"}, "GATEWAY_JWT_SECRET_FILE: names a file that cannot be read: no such file or directory", ""},
		{"the secret itself instead of a file's name", []string{file + strings.Repeat("x", 300)}, "GATEWAY_JWT_SECRET_FILE: names a file that cannot be read: file name too long", ""},
		{"an empty file", []string{file + "empty"}, "GATEWAY_JWT_SECRET_FILE: names a file that is empty", ""},
		{"a file of one line break", []string{file + "break-only"}, "GATEWAY_JWT_SECRET_FILE: names a file that is empty", ""},
		{"a file that is too large", []string{file + "large"}, "GATEWAY_JWT_SECRET_FILE: names a file of more than 64 KiB", ""},
		{"a directory", []string{file + dir}, "GATEWAY_JWT_SECRET_FILE: names something that is not a regular file", ""},
		{"a device that never ends", []string{file + "/dev/zero"}, "GATEWAY_JWT_SECRET_FILE: names something that is not a regular file", ""},
		{"a secret in a file meets the same rules", []string{file + "short"}, "GATEWAY_JWT_SECRET: is shorter than 32 bytes (GATEWAY_JWT_ALLOW_SHORT_SECRET=true accepts it, with a warning)", ""},
		{"a database URL in a file", []string{file + "good", "GATEWAY_DATABASE_URL_FILE=database"}, "", testSecret},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _, err := config.Load(config.Source{Environ: tc.environ, Dir: dir}, config.NeedAuthz)
			if tc.wantFault != "" {
				if err == nil || err.Error() != tc.wantFault {
					t.Fatalf("fault %q, want %q", err, tc.wantFault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Tokens.Secret.Reveal(); got != tc.wantSecret {
				t.Errorf("secret %q, want %q", got, tc.wantSecret)
			}
		})
	}
}

func TestAFileIsReadOnlyByThoseWhoUseIt(t *testing.T) {
	environ := complete("GATEWAY_POSTGRES_PASSWORD_FILE=/nonexistent")
	if got := faults(t, config.Source{Environ: environ}, config.NeedEnvoy); got != nil {
		t.Errorf("Envoy's configuration: %q, want no fault", got)
	}
	want := []string{"GATEWAY_POSTGRES_PASSWORD_FILE: names a file that cannot be read: no such file or directory"}
	if got := faults(t, config.Source{Environ: environ}, config.NeedDatabase); !slices.Equal(got, want) {
		t.Errorf("database: %q, want %q", got, want)
	}
}

func TestEmptyValues(t *testing.T) {
	s, _ := mustLoad(t, config.Source{Environ: complete("GATEWAY_LOG_LEVEL=", "GATEWAY_PROJECT_NAME=  ", "GATEWAY_SESSION_MAX_LIFETIME=")}, needAll)
	if s.ProjectName != "Gatehouse" || s.IsSet("PROJECT_NAME") || s.IsSet("LOG_LEVEL") {
		t.Errorf("an empty value is not the same as none: %v", s)
	}
	got := faults(t, config.Source{Environ: []string{"GATEWAY_JWT_SECRET="}}, config.NeedAuthz)
	if want := []string{"GATEWAY_JWT_SECRET: is empty"}; !slices.Equal(got, want) {
		t.Errorf("empty secret: %q, want %q", got, want)
	}
}

func TestTheLastOfSeveralEntriesCounts(t *testing.T) {
	s, _ := mustLoad(t, config.Source{Environ: complete("GATEWAY_PROJECT_NAME=one", "=odd", "odd", "GATEWAY_PROJECT_NAME=two")}, needAll)
	if s.ProjectName != "two" {
		t.Errorf("ProjectName %q, want two", s.ProjectName)
	}
}

func TestUnknownNames(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, ".env"), "GATEWAY_ROUTS=prefix\nOTHER=1\n")
	for _, tc := range []struct {
		name    string
		environ []string
		want    []string
	}{
		{"the environment and .env are one warning", []string{"GATEWAY_JWT_SECRT=x", "SOMETHING=1"}, []string{"unknown settings are ignored: GATEWAY_JWT_SECRT (did you mean GATEWAY_JWT_SECRET?), GATEWAY_ROUTS (did you mean GATEWAY_ROUTES?)"}},
		{"nothing near", []string{"GATEWAY_ROUTS=", "GATEWAY_COMPLETELY_DIFFERENT=1"}, []string{"unknown settings are ignored: GATEWAY_COMPLETELY_DIFFERENT, GATEWAY_ROUTS (did you mean GATEWAY_ROUTES?)"}},
		{"other letter case", []string{"gateway_log_level=DEBUG"}, []string{"unknown settings are ignored: GATEWAY_ROUTS (did you mean GATEWAY_ROUTES?), gateway_log_level (did you mean GATEWAY_LOG_LEVEL?)"}},
		{"a prefix too many, a _FILE too many", []string{"GATEWAY_PG_BIN=/x", "GATEWAY_LOG_LEVEL_FILE=/x"}, []string{"unknown settings are ignored: GATEWAY_LOG_LEVEL_FILE (did you mean GATEWAY_LOG_LEVEL?), GATEWAY_PG_BIN (did you mean PG_BIN?), GATEWAY_ROUTS (did you mean GATEWAY_ROUTES?)"}},
		{"a name that would break the line", []string{"GATEWAY_A\nB=1"}, []string{"unknown settings are ignored: GATEWAY_A?B, GATEWAY_ROUTS (did you mean GATEWAY_ROUTES?)"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, got := mustLoad(t, config.Source{Environ: tc.environ, Dir: dir}, config.NeedDatabase)
			if !slices.Equal(got, tc.want) {
				t.Errorf("warnings %q, want %q", got, tc.want)
			}
		})
	}
}

func TestWhatUpAsksAndHandsOn(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "password"), "test-word")
	write(t, filepath.Join(dir, ".env"), "GATEWAY_LOGIN_LISTEN=:7001\nGATEWAY_POSTGRES_PASSWORD_FILE=password\nUNRELATED=1\nGATEWAY_ROUTES=explicit\n")
	src := config.Source{Environ: []string{"PATH=/bin", "GATEWAY_POSTGRES_SERVER=db", "GATEWAY_ROUTES="}, Dir: dir}
	first, _ := mustLoad(t, src, config.NeedUp)

	for name, want := range map[string]bool{
		"LOGIN_LISTEN": true, "POSTGRES_SERVER": true, "POSTGRES_PASSWORD": true,
		"AUTHZ_LISTEN": false, "JWT_SECRET": false, "DATABASE_URL": false, "ROUTES": false, "ENVOY_BIN": false,
	} {
		if got := first.IsSet(name); got != want {
			t.Errorf("IsSet(%s) = %v, want %v", name, got, want)
		}
	}

	environ := first.Environ(map[string]string{
		"GATEWAY_JWT_SECRET": testSecret, "GATEWAY_AUTHZ_LISTEN": "127.0.0.1:0",
		"GATEWAY_INGEST_SERVICE_URL": "http://127.0.0.1:1", "GATEWAY_QUERY_SERVICE_URL": "http://127.0.0.1:2",
	})
	second, _ := mustLoad(t, config.Source{Environ: environ}, needAll)
	if got, want := second.Database.URL.Reveal(), "postgres://postgres:test-word@db:5432/atenex?sslmode=prefer"; got != want {
		t.Errorf("database %s, want %s", got, want)
	}
	if second.Listen.Login.Port != 7001 || second.Listen.Authz.String() != "127.0.0.1:0" || second.Edge.Routes != "prefix" {
		t.Errorf("settings were lost on the way: %v", second)
	}
	if slices.Contains(environ, "UNRELATED=1") || !slices.Contains(environ, "PATH=/bin") {
		t.Errorf("environment %q, want PATH and nothing foreign from .env", environ)
	}

	third, _ := mustLoad(t, config.Source{Environ: first.Environ(map[string]string{"GATEWAY_POSTGRES_PASSWORD": "test-other"})}, config.NeedDatabase)
	if got, want := third.Database.URL.Reveal(), "postgres://postgres:test-other@db:5432/atenex?sslmode=prefer"; got != want {
		t.Errorf("an amendment does not replace the file form: %s, want %s", got, want)
	}
}

func TestATableOfOnesOwnIsFoundFromEverywhere(t *testing.T) {
	dir := t.TempDir()
	s, _ := mustLoad(t, config.Source{Environ: []string{"GATEWAY_ROUTES=tables/own.yaml"}, Dir: dir}, config.NeedUp)
	want := filepath.Join(dir, "tables", "own.yaml")
	if s.Edge.Routes != want {
		t.Errorf("%s, want %s", s.Edge.Routes, want)
	}
	if environ := s.Environ(nil); !slices.Contains(environ, "GATEWAY_ROUTES="+want) {
		t.Errorf("a child gets %q, want %s", environ, want)
	}
}

func TestAskingForNoSettingPanics(t *testing.T) {
	s, _ := mustLoad(t, config.Source{}, config.NeedDatabase)
	defer func() {
		if recover() == nil {
			t.Error("IsSet of a misspelt name answered")
		}
	}()
	s.IsSet("AUTZ_LISTEN")
}
