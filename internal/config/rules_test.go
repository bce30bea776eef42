package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/atenex/gatehouse/internal/config"
)

// Not keys, but what a PEM block looks like.
const (
	publicPEM  = "-----BEGIN PUBLIC KEY-----\ndGVzdC13b3Jk\n-----END PUBLIC KEY-----"
	privatePEM = "-----BEGIN PRIVATE KEY-----\ndGVzdC13b3Jk\n-----END PRIVATE KEY-----"
)

func TestRulesOfTokens(t *testing.T) {
	const until = "GATEWAY_LEGACY_TOKENS_UNTIL=2031-05-17T00:00:00Z"
	short := "test-secret"
	for _, tc := range []struct {
		name         string
		environ      []string
		wantFaults   []string
		wantWarnings []string
	}{
		{"a good secret", []string{"GATEWAY_JWT_SECRET=" + testSecret}, nil, nil},
		{"32 bytes are enough", []string{"GATEWAY_JWT_SECRET=" + strings.Repeat("t", 32)}, nil, nil},
		{"31 are not", []string{"GATEWAY_JWT_SECRET=" + strings.Repeat("t", 31)}, []string{"GATEWAY_JWT_SECRET: is shorter than 32 bytes (GATEWAY_JWT_ALLOW_SHORT_SECRET=true accepts it, with a warning)"}, nil},
		{"a short one is accepted on demand", []string{"GATEWAY_JWT_SECRET=" + short, "GATEWAY_JWT_ALLOW_SHORT_SECRET=true"}, nil, []string{"GATEWAY_JWT_SECRET: is shorter than 32 bytes, "}},
		{"the placeholder is refused", []string{"GATEWAY_JWT_SECRET=" + placeholder}, []string{"GATEWAY_JWT_SECRET: is the placeholder "}, nil},
		{"the placeholder is never allowed", []string{"GATEWAY_JWT_SECRET= " + strings.ToLower(placeholder), "GATEWAY_JWT_ALLOW_SHORT_SECRET=true"}, []string{"GATEWAY_JWT_SECRET: is the placeholder "}, []string{"GATEWAY_JWT_SECRET: begins or ends with white space"}},
		{"the empty one is never allowed", []string{"GATEWAY_JWT_SECRET=", "GATEWAY_JWT_ALLOW_SHORT_SECRET=true"}, []string{"GATEWAY_JWT_SECRET: is empty"}, nil},
		{"blanks are no secret", []string{"GATEWAY_JWT_SECRET=" + strings.Repeat(" ", 40)}, []string{"GATEWAY_JWT_SECRET: is blank"}, []string{"GATEWAY_JWT_SECRET: begins or ends with white space"}},
		{"white space at an end is kept and told", []string{"GATEWAY_JWT_SECRET=" + testSecret + "\n"}, nil, []string{"GATEWAY_JWT_SECRET: begins or ends with white space"}},
		{"a byte order mark is kept and told", []string{"GATEWAY_JWT_SECRET=\xef\xbb\xbf" + testSecret}, nil, []string{"GATEWAY_JWT_SECRET: begins with a byte order mark"}},
		{"a secret may stand beside a key pair", []string{"GATEWAY_JWT_ALGORITHM=ES256", "GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_JWT_PRIVATE_KEY=" + privatePEM}, nil, nil},
		{"and is judged there too", []string{"GATEWAY_JWT_ALGORITHM=ES256", "GATEWAY_JWT_SECRET=" + short, "GATEWAY_JWT_PRIVATE_KEY=" + privatePEM}, []string{"GATEWAY_JWT_SECRET: is shorter than 32 bytes "}, nil},
		{"a PEM text on one line", []string{"GATEWAY_JWT_ALGORITHM=ES256", "GATEWAY_JWT_PRIVATE_KEY=" + strings.ReplaceAll(privatePEM, "\n", `\n`)}, nil, nil},
		{"a key pair is not for HS256", []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_JWT_PUBLIC_KEY=" + publicPEM}, []string{"GATEWAY_JWT_PUBLIC_KEY: is set, but GATEWAY_JWT_ALGORITHM is HS256, which does not use it; "}, nil},
		{"a private key is not a public one", []string{"GATEWAY_JWT_ALGORITHM=ES256", "GATEWAY_JWT_PRIVATE_KEY=" + privatePEM, "GATEWAY_JWT_PUBLIC_KEY=" + privatePEM}, []string{"GATEWAY_JWT_PUBLIC_KEY: holds a private key; "}, nil},
		{"a public key is not a private one", []string{"GATEWAY_JWT_ALGORITHM=ES256", "GATEWAY_JWT_PRIVATE_KEY=" + publicPEM}, []string{"GATEWAY_JWT_PRIVATE_KEY: holds no private key"}, nil},
		{"two keys are one too many", []string{"GATEWAY_JWT_ALGORITHM=ES256", "GATEWAY_JWT_PRIVATE_KEY=" + privatePEM + "\n" + privatePEM}, []string{"GATEWAY_JWT_PRIVATE_KEY: holds more than one PEM block"}, nil},
		{"a key set needs no secret", []string{"GATEWAY_JWT_KEYS={}"}, nil, nil},
		{"and has room for one", []string{"GATEWAY_JWT_KEYS={}", "GATEWAY_JWT_SECRET=" + testSecret}, nil, nil},
		{"a key set and a PEM key", []string{"GATEWAY_JWT_KEYS={}", "GATEWAY_JWT_ALGORITHM=ES256", "GATEWAY_JWT_PRIVATE_KEY=" + privatePEM}, []string{"GATEWAY_JWT_PRIVATE_KEY: is set together with GATEWAY_JWT_KEYS; "}, nil},
		{"a fetched set and a PEM key", []string{"GATEWAY_JWT_JWKS_URL=https://i.example/jwks", "GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_JWT_PUBLIC_KEY=" + publicPEM}, []string{"GATEWAY_JWT_PUBLIC_KEY: is set together with GATEWAY_JWT_JWKS_URL; "}, nil},
		{"a fetched set cannot sign", []string{"GATEWAY_JWT_JWKS_URL=https://i.example/jwks"}, []string{"GATEWAY_JWT_SECRET: is not set, nor is GATEWAY_JWT_KEYS; "}, nil},
		{"a fetched set beside a secret", []string{"GATEWAY_JWT_JWKS_URL=https://i.example/jwks", "GATEWAY_JWT_SECRET=" + testSecret}, nil, nil},
		{"the secret signs where an algorithm says otherwise", []string{"GATEWAY_JWT_JWKS_URL=https://i.example/jwks", "GATEWAY_JWT_ALGORITHM=ES256", "GATEWAY_JWT_SECRET=" + testSecret}, nil, []string{"GATEWAY_JWT_ALGORITHM: is ES256, for which there is no key that signs: new tokens are HS256"}},
		{"a fetched set beside one of our own", []string{"GATEWAY_JWT_JWKS_URL=https://i.example/jwks", "GATEWAY_JWT_KEYS={}"}, nil, nil},
		{"keys over http warn", []string{"GATEWAY_JWT_JWKS_URL=http://i.example/jwks", "GATEWAY_JWT_KEYS={}"}, nil, []string{"GATEWAY_JWT_JWKS_URL: is http://"}},
		{"but not on this machine", []string{"GATEWAY_JWT_JWKS_URL=http://127.0.0.1:9999/jwks", "GATEWAY_JWT_KEYS={}"}, nil, nil},
		{"no user check needs supabase", []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_USER_CHECK=off"}, []string{"GATEWAY_USER_CHECK: is off, which is possible only with GATEWAY_TOKEN_PROFILE=supabase"}, []string{"GATEWAY_USER_CHECK: is off: "}},
		{"no user check with supabase warns", []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_USER_CHECK=off", "GATEWAY_SUPABASE_URL=https://p.supabase.example"}, nil, []string{"GATEWAY_USER_CHECK: is off: "}},
		{"no user check forbids a company check", []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_USER_CHECK=off", "GATEWAY_COMPANY_CHECK=required", "GATEWAY_TOKEN_PROFILE=supabase"}, []string{"GATEWAY_COMPANY_CHECK: is required, but GATEWAY_USER_CHECK is off, "}, []string{"GATEWAY_USER_CHECK: is off: "}},
		{"joining any company warns", []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_COMPANY_JOIN_POLICY=any"}, nil, []string{"GATEWAY_COMPANY_JOIN_POLICY: is any: "}},
		{"no throttle warns", []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_LOGIN_THROTTLE=off"}, nil, []string{"GATEWAY_LOGIN_THROTTLE: is off: "}},
		{"joining any company and registering", []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_COMPANY_JOIN_POLICY=any", "GATEWAY_REGISTRATION=postgres"}, []string{"GATEWAY_COMPANY_JOIN_POLICY: is any while GATEWAY_REGISTRATION is on: "}, []string{"GATEWAY_COMPANY_JOIN_POLICY: is any: "}},
		{"joining any company and registering, accepted", []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_COMPANY_JOIN_POLICY=any", "GATEWAY_REGISTRATION=postgres", "GATEWAY_I_ACCEPT_OPEN_TENANCY=true"}, nil, []string{"GATEWAY_COMPANY_JOIN_POLICY: is any: "}},
		{"registering at Supabase needs to know where, and the key", []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_REGISTRATION=supabase"}, []string{"GATEWAY_SUPABASE_URL: is not set; ", "GATEWAY_SUPABASE_SERVICE_ROLE_KEY: is not set; "}, nil},
		{"registering at Supabase", []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_REGISTRATION=supabase", "GATEWAY_SUPABASE_URL=https://p.example", "GATEWAY_SUPABASE_SERVICE_ROLE_KEY=test-word"}, nil, nil},
		{"trusting everybody warns", []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_TRUSTED_PROXIES=0.0.0.0/0"}, nil, []string{"GATEWAY_TRUSTED_PROXIES: trusts every address: "}},
		{"a pool smaller than its minimum", []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_POSTGRES_POOL_MAX=4"}, []string{"GATEWAY_POSTGRES_POOL_MIN: is greater than GATEWAY_POSTGRES_POOL_MAX"}, nil},
		{"parts of the database beside its URL warn", []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_DATABASE_URL=postgres://db/x", "GATEWAY_POSTGRES_DB=y"}, nil, []string{"GATEWAY_POSTGRES_DB: has no effect, because GATEWAY_DATABASE_URL is set"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, warnings, err := config.Load(config.Source{Environ: append([]string{until}, tc.environ...)}, config.NeedAuthz|config.NeedLogin)
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			matching(t, "fault", got, tc.wantFaults)
			matching(t, "warning", warnings, tc.wantWarnings)
		})
	}
}

// matching demands that each of got begins as its fellow in want.
func matching(t *testing.T, kind string, got, want []string) {
	t.Helper()
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("%ss:\n%s\nwant:\n%s", kind, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWhatFollowsFromTheProfile(t *testing.T) {
	for _, tc := range []struct {
		name         string
		environ      []string
		wantProfile  config.Profile
		wantAudience string
		wantChecks   config.Checks
		wantStore    bool
	}{
		{"nothing said", nil, "native", "", config.Checks{User: "required", Company: "required"}, true},
		{"a Supabase project", []string{"GATEWAY_SUPABASE_URL=https://p.example"}, "supabase", "authenticated", config.Checks{User: "required", Company: "off"}, true},
		{"a Supabase project and native tokens", []string{"GATEWAY_SUPABASE_URL=https://p.example", "GATEWAY_TOKEN_PROFILE=native"}, "native", "", config.Checks{User: "required", Company: "required"}, true},
		{"the profile alone, with an audience", []string{"GATEWAY_TOKEN_PROFILE=supabase", "GATEWAY_JWT_AUDIENCE=web"}, "supabase", "web", config.Checks{User: "required", Company: "off"}, true},
		{"the profile and a company check", []string{"GATEWAY_TOKEN_PROFILE=supabase", "GATEWAY_COMPANY_CHECK=required"}, "supabase", "authenticated", config.Checks{User: "required", Company: "required"}, true},
		{"no check", []string{"GATEWAY_TOKEN_PROFILE=supabase", "GATEWAY_USER_CHECK=off"}, "supabase", "authenticated", config.Checks{User: "off", Company: "off"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := mustLoad(t, config.Source{Environ: complete(tc.environ...)}, needAll)
			if s.Tokens.Profile != tc.wantProfile || s.Tokens.Audience != tc.wantAudience || s.Checks != tc.wantChecks || s.Checks.NeedStore() != tc.wantStore {
				t.Errorf("%s %q %v, want %s %q %v", s.Tokens.Profile, s.Tokens.Audience, s.Checks, tc.wantProfile, tc.wantAudience, tc.wantChecks)
			}
		})
	}
	if !(config.Checks{}).NeedStore() {
		t.Error("the zero Checks do not ask the store")
	}
}

func TestWarningsAreForTheServices(t *testing.T) {
	_, got := mustLoad(t, config.Source{Environ: complete("GATEWAY_COMPANY_JOIN_POLICY=any")}, config.NeedVerify|config.NeedDatabase)
	if got != nil {
		t.Errorf("warnings %q, want none for a command", got)
	}
}

// The password may hold any characters: the driver must read back what the
// operator wrote.
func TestDatabaseFromItsParts(t *testing.T) {
	for _, tc := range []struct {
		name                   string
		server, port, db, user string
		password               string
		wantHost               string
	}{
		{"plain", "db", "5432", "atenex", "postgres", "test-word", "db"},
		{"no password", "db", "5432", "atenex", "postgres", "", "db"},
		{"every awkward character", "db.example", "1", "a b?#%é", "u:@/ ü", `:/?#[]@!$&'()*+,;=%41 "\ ü` + "\n", "db.example"},
		{"IPv6", "::1", "65535", "atenex", "postgres", "test-word", "::1"},
		{"a unix socket", "/var/run/postgresql", "6000", "atenex", "postgres", "p@ss:w/rd", "/var/run/postgresql"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := mustLoad(t, config.Source{Environ: complete(
				"GATEWAY_POSTGRES_SERVER="+tc.server, "GATEWAY_POSTGRES_PORT="+tc.port, "GATEWAY_POSTGRES_DB="+tc.db,
				"GATEWAY_POSTGRES_USER="+tc.user, "GATEWAY_POSTGRES_PASSWORD="+tc.password, "GATEWAY_POSTGRES_SSLMODE=disable")}, needAll)
			got, err := pgconn.ParseConfig(s.Database.URL.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			if got.Host != tc.wantHost || got.Database != tc.db || got.User != tc.user || got.Password != tc.password || got.TLSConfig != nil {
				t.Errorf("the driver reads host %q, database %q, user %q, password %q", got.Host, got.Database, got.User, got.Password)
			}
		})
	}
}

func TestDatabaseURL(t *testing.T) {
	for _, tc := range []struct{ name, url, want, wantMasked string }{
		{"plain", "postgres://u:test-word@db:5432/x?sslmode=require", "", "postgres://u:[redacted]@db:5432/x?sslmode=require"},
		{"no password", "postgresql://u@db/x", "", "postgresql://u@db/x"},
		{"a password among the parameters", "postgres://db/x?user=u&password=test-word&sslpassword=test-word", "", "postgres://db/x?password=[redacted]&sslpassword=[redacted]&user=u"},
		{"a parameter that nobody knows", "postgres://db/x?options=test-word", "", "postgres://db/x?options=[redacted]"},
		{"several hosts", "postgres://u:test-word@a:1,b:2/x", "", "postgres://u:[redacted]@a:1,b:2/x"},
		{"a unix socket", "postgres:///x?host=/run/pg", "", "postgres:///x?host=%2Frun%2Fpg"},
		{"IPv6", "postgres://u:test-word@[::1]:5432/x", "", "postgres://u:[redacted]@[::1]:5432/x"},
		{"another scheme", "mysql://u:test-word@db/x", "does not begin with postgres:// or postgresql://", ""},
		{"SQLAlchemy's scheme", "postgresql+asyncpg://u:test-word@db/x", "does not begin with postgres:// or postgresql://", ""},
		{"words and values", "host=db password=test-word", "does not begin with postgres:// or postgresql://", ""},
		{"no host", "postgres:///x", "names no host", ""},
		{"a wrong port", "postgres://u:test-word@db:99999/x", "has a wrong host or port", ""},
		{"a raw # in the password", "postgres://u:test#word@db/x", "is not a URL", ""},
		{"a raw / in the password", "postgres://u:1/test-word@db/x", "has a / or @ after the host", ""},
		{"a raw ? in the password", "postgres://u:1?test-word@db/x", "has a query that is not name=value&name=value", ""},
		{"a raw ? in the password that looks like a parameter", "postgres://u:1?application_name=test-word@db/x", "has a / or @ after the host", ""},
		{"a raw % in the password", "postgres://u:%test-word@db/x", "is not a URL", ""},
		{"a control character", "postgres://u:test\x01word@db/x", "is not a URL", ""},
		{"a wrong sslmode", "postgres://u:test-word@db/x?sslmode=on", "has an sslmode that is not one of ", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := config.Source{Environ: []string{"GATEWAY_DATABASE_URL=" + tc.url}}
			if tc.want != "" {
				got := faults(t, src, config.NeedDatabase)
				matching(t, "fault", got, []string{"GATEWAY_DATABASE_URL: " + tc.want})
				if strings.Contains(strings.Join(got, ""), "test") {
					t.Errorf("%q shows the URL", got)
				}
				return
			}
			s, _ := mustLoad(t, src, config.NeedDatabase)
			if got := s.Database.URL.Reveal(); got != tc.url {
				t.Errorf("URL %q, want %q", got, tc.url)
			}
			if _, err := pgconn.ParseConfig(tc.url); err != nil && !strings.Contains(tc.name, "nobody knows") {
				t.Errorf("the driver refuses what we accept: %v", err)
			}
			if want := `GATEWAY_DATABASE_URL="` + tc.wantMasked + `"`; !strings.Contains(s.Masked(), want) {
				t.Errorf("masked settings %s, want %s", s.Masked(), want)
			}
		})
	}
}

func TestWhoOnlyVerifiesNeedsNoKeyThatSigns(t *testing.T) {
	s, _ := mustLoad(t, config.Source{Environ: []string{"GATEWAY_JWT_JWKS_URL=https://i.example/jwks"}}, config.NeedAuthz)
	if s.Tokens.JWKSURL.String() != "https://i.example/jwks" {
		t.Errorf("the keys are at %s", s.Tokens.JWKSURL)
	}
	got := faults(t, config.Source{Environ: []string{"GATEWAY_JWT_JWKS_URL=https://i.example/jwks", "GATEWAY_JWT_ALGORITHM=HS512"}}, config.NeedAuthz)
	matching(t, "fault", got, []string{"GATEWAY_JWT_SECRET: is not set; HS512 needs it"})
}

func TestAKeySetKnowsItsFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.json")
	if err := os.WriteFile(path, []byte("{\"keys\":[]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := mustLoad(t, config.Source{Environ: []string{"GATEWAY_JWT_KEYS_FILE=keys.json"}, Dir: dir}, config.NeedAuthz)
	if s.Tokens.KeysFile != path || s.Tokens.Keys.Reveal() != `{"keys":[]}` {
		t.Errorf("file %q", s.Tokens.KeysFile)
	}
	s, _ = mustLoad(t, config.Source{Environ: []string{"GATEWAY_JWT_KEYS={}"}}, config.NeedAuthz)
	if s.Tokens.KeysFile != "" {
		t.Errorf("a set from no file has the file %q", s.Tokens.KeysFile)
	}
}
