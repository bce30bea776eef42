package config_test

import (
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/identity"
)

func TestDefaults(t *testing.T) {
	s, warnings := mustLoad(t, config.Source{Environ: complete()}, needAll)
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0], "GATEWAY_LEGACY_TOKENS_UNTIL: is not set") {
		t.Errorf("warnings %q, want the one about legacy tokens", warnings)
	}
	var origins []string
	for _, port := range "0123456789" {
		origins = append(origins, "http://localhost:300"+string(port))
	}
	for _, tc := range []struct {
		name      string
		got, want any
	}{
		{"project", s.ProjectName, "Gatehouse"},
		{"level", s.LogLevel, slog.LevelInfo},
		{"public", s.Listen.Public.String(), "0.0.0.0:8080"},
		{"admin", s.Listen.EnvoyAdmin.String(), "127.0.0.1:9901"},
		{"authz", s.Listen.Authz.String(), ":9191"},
		{"authz ops", s.Listen.AuthzOps.String(), ":9192"},
		{"login", s.Listen.Login.String(), ":8081"},
		{"login ops", s.Listen.LoginOps.String(), ":8082"},
		{"ingest", s.Upstreams.Ingest.String(), "http://ingest:8000"},
		{"query", s.Upstreams.Query.String(), "https://query.example"},
		{"auth", s.Upstreams.Auth == nil, true},
		{"first byte", s.Upstreams.FirstByte, time.Minute},
		{"idle", s.Upstreams.StreamIdle, 5 * time.Minute},
		{"connections", s.Upstreams.MaxConnections, uint32(200)},
		{"algorithm", s.Tokens.Algorithm, "HS256"},
		{"profile", s.Tokens.Profile, config.ProfileNative},
		{"audience", s.Tokens.Audience, ""},
		{"leeway", s.Tokens.Leeway, time.Duration(0)},
		{"ttl", s.Tokens.TTL, 24 * time.Hour},
		{"session", s.Tokens.SessionLifetime, 720 * time.Hour},
		{"legacy", s.Tokens.LegacyUntil.IsZero(), true},
		{"checks", s.Checks, config.Checks{User: "required", Company: "required"}},
		{"database", s.Database.URL.Reveal(), "postgres://postgres@localhost:5432/atenex?sslmode=prefer"},
		{"pool", []int32{s.Database.PoolMin, s.Database.PoolMax}, []int32{5, 20}},
		{"activity", s.Activity, config.Activity{Cache: true, Bytes: 256 << 20, TokenCache: true, TokenBytes: 64 << 20, ProofOfLife: time.Second}},
		{"companies", s.Companies, config.Companies{InvitationRoles: []string{"user", "admin"}}},
		{"audit", s.AuditRetention, 365 * 24 * time.Hour},
		{"passwords", s.Passwords, config.Passwords{Scheme: "argon2id", Upgrade: true}},
		{"registration", s.Registration, config.Registration{At: config.RegistrationOff}},
		{"throttle", s.Throttle, config.Throttle{
			Login: identity.LoginLimits{
				SourceBurst: 20, SourceEvery: 6 * time.Second, SourceFailures: identity.Quota{Most: 30, Within: 10 * time.Minute},
				FirstWait: 6, Wait: time.Second, LongestWait: 300 * time.Second, Forget: 15 * time.Minute, Parallel: 10,
				AccountFailures: identity.Quota{Most: 100, Within: 24 * time.Hour}, FamiliarFor: 720 * time.Hour, FamiliarMost: 20,
			},
			User:           identity.Quota{Most: 60, Within: time.Minute},
			RegisterSource: [2]identity.Quota{{Most: 5, Within: time.Hour}, {Most: 20, Within: 24 * time.Hour}},
			Register:       identity.Quota{Most: 200, Within: time.Hour},
		}},
		{"edge", s.Edge, config.Edge{Routes: "prefix", RouteSource: "extensions", LoginRateLimit: config.RateLimit{Requests: 10, Per: time.Second, Burst: 30}, Origins: origins, Bounds: config.Bounds{Heap: 1 << 30, Clients: 50_000}}},
		{"proxies", s.TrustedProxies, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}},
	} {
		if !reflect.DeepEqual(tc.got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, tc.got, tc.want)
		}
	}
}

func TestGoodValues(t *testing.T) {
	type S = config.Settings
	for _, tc := range []struct {
		entry string
		get   func(*S) any
		want  any
	}{
		{"LOG_LEVEL=debug", func(s *S) any { return s.LogLevel }, slog.LevelDebug},
		{"LOG_LEVEL=Warning", func(s *S) any { return s.LogLevel }, slog.LevelWarn},
		{"LOG_LEVEL=CRITICAL", func(s *S) any { return s.LogLevel > slog.LevelError }, true},
		{"LOG_LEVEL= INFO\r", func(s *S) any { return s.LogLevel }, slog.LevelInfo},
		{"LISTEN=:0", func(s *S) any { return s.Listen.Public }, config.Address{}},
		{"LISTEN=localhost:80", func(s *S) any { return s.Listen.Public }, config.Address{Host: "127.0.0.1", Port: 80}},
		{"LISTEN=[::]:80", func(s *S) any { return s.Listen.Public.String() }, "[::]:80"},
		{"AUTHZ_LISTEN=authz:9191", func(s *S) any { return s.Listen.Authz }, config.Address{Host: "authz", Port: 9191}},
		{"AUTHZ_LISTEN=unix:///run/gatehouse/authz.sock", func(s *S) any { return s.Listen.Authz }, config.Address{Path: "/run/gatehouse/authz.sock"}},
		{"INGEST_SERVICE_URL=HTTP://Ingest.Example/", func(s *S) any { return s.Upstreams.Ingest.String() }, "http://ingest.example"},
		{"QUERY_SERVICE_URL=http://[::1]:9", func(s *S) any { return s.Upstreams.Query.Host }, "[::1]:9"},
		{"AUTH_SERVICE_URL=https://10.0.0.1", func(s *S) any { return s.Upstreams.Auth.Hostname() }, "10.0.0.1"},
		{"HTTP_CLIENT_TIMEOUT=0.25", func(s *S) any { return s.Upstreams.FirstByte }, 250 * time.Millisecond},
		{"STREAM_MAX_DURATION=900", func(s *S) any { return s.Upstreams.StreamMax }, 15 * time.Minute},
		{"STREAM_MAX_DURATION=0", func(s *S) any { return s.Upstreams.StreamMax }, time.Duration(0)},
		{"STREAM_IDLE_TIMEOUT=86400", func(s *S) any { return s.Upstreams.StreamIdle }, 24 * time.Hour},
		{"HTTP_CLIENT_MAX_CONNECTIONS=1", func(s *S) any { return s.Upstreams.MaxConnections }, uint32(1)},
		{"HTTP_CLIENT_MAX_KEEPALIVE_CONNECTIONS=0", func(s *S) any { return s.IsSet("HTTP_CLIENT_MAX_KEEPALIVE_CONNECTIONS") }, true},
		{"JWT_ALGORITHM=HS512", func(s *S) any { return s.Tokens.Algorithm }, "HS512"},
		{"JWT_AUDIENCE=web", func(s *S) any { return s.Tokens.Audience }, "web"},
		{"JWT_ISSUER=https://issuer.example/auth", func(s *S) any { return s.Tokens.Issuer }, "https://issuer.example/auth"},
		{"JWT_LEEWAY=30s", func(s *S) any { return s.Tokens.Leeway }, 30 * time.Second},
		{"ACCESS_TOKEN_TTL=15m", func(s *S) any { return s.Tokens.TTL }, 15 * time.Minute},
		{"SESSION_MAX_LIFETIME=2s", func(s *S) any { return s.Tokens.SessionLifetime }, 2 * time.Second},
		{"LEGACY_TOKENS_UNTIL=2031-05-17T02:00:00+02:00", func(s *S) any { return s.Tokens.LegacyUntil.UTC() }, time.Date(2031, 5, 17, 0, 0, 0, 0, time.UTC)},
		{"TOKEN_PROFILE=supabase", func(s *S) any { return s.Tokens.Profile }, config.ProfileSupabase},
		{"COMPANY_CHECK=off", func(s *S) any { return s.Checks }, config.Checks{User: "required", Company: "off"}},
		{"DEFAULT_COMPANY_ID=018F0000-0000-7000-8000-00000000000A", func(s *S) any { return s.Companies.Default.String() }, "018f0000-0000-7000-8000-00000000000a"},
		{"COMPANY_JOIN_POLICY=any", func(s *S) any { return s.Companies.JoinAny }, true},
		{"INVITATION_ROLES=viewer, editor", func(s *S) any { return s.Companies.InvitationRoles }, []string{"viewer", "editor"}},
		{"AUDIT_RETENTION=1d", func(s *S) any { return s.AuditRetention }, 24 * time.Hour},
		{"AUDIT_RETENTION=off", func(s *S) any { return s.AuditRetention }, time.Duration(0)},
		{"PASSWORD_SCHEME=bcrypt", func(s *S) any { return s.Passwords.Scheme }, "bcrypt"},
		{"PASSWORD_UPGRADE=False", func(s *S) any { return s.Passwords.Upgrade }, false},
		{"BCRYPT_TRUNCATE_72=TRUE", func(s *S) any { return s.Passwords.BcryptTruncate72 }, true},
		{"DEFAULT_COMPANY_NAME= Acme & Söhne ", func(s *S) any { return s.Companies.DefaultName }, "Acme & Söhne"},
		{"REGISTRATION=off", func(s *S) any { return s.Registration }, config.Registration{At: config.RegistrationOff}},
		{"REGISTRATION=postgres", func(s *S) any { return s.Registration.At }, config.RegistrationPostgres},
		{"REGISTRATION_CONCEAL=True", func(s *S) any { return s.Registration.Conceal }, true},
		{"I_ACCEPT_OPEN_TENANCY=true", func(s *S) any { return s.IsSet("I_ACCEPT_OPEN_TENANCY") }, true},
		{"SUPABASE_URL=https://p.supabase.example/", func(s *S) any { return s.Supabase.URL.Host }, "p.supabase.example"},
		{"SUPABASE_SERVICE_ROLE_KEY=test-word", func(s *S) any { return s.Supabase.ServiceRoleKey.Reveal() }, "test-word"},
		{"SUPABASE_EMAIL_CONFIRM=true", func(s *S) any { return s.Supabase.EmailConfirm }, true},
		{"LOGIN_THROTTLE=on", func(s *S) any { return s.Throttle.Off }, false},
		{"LOGIN_THROTTLE=off", func(s *S) any { return s.Throttle.Off }, true},
		{"LOGIN_SOURCE_RATE_LIMIT=10/m burst 20", func(s *S) any { return s.Throttle.Login.SourceEvery }, 6 * time.Second},
		{"LOGIN_SOURCE_RATE_LIMIT=0", func(s *S) any { return s.Throttle.Login.SourceBurst }, 0},
		{"LOGIN_SOURCE_FAILURES=0", func(s *S) any { return s.Throttle.Login.SourceFailures }, identity.Quota{}},
		{"LOGIN_ACCOUNT_FAILURES=1000 in 8760h", func(s *S) any { return s.Throttle.Login.AccountFailures }, identity.Quota{Most: 1000, Within: 8760 * time.Hour}},
		{"LOGIN_WAIT_AFTER=0", func(s *S) any { return s.Throttle.Login.FirstWait }, 0},
		{"LOGIN_WAIT=2s", func(s *S) any { return s.Throttle.Login.Wait }, 2 * time.Second},
		{"LOGIN_WAIT_MAX=1h", func(s *S) any { return s.Throttle.Login.LongestWait }, time.Hour},
		{"LOGIN_WAIT_FORGET=1h", func(s *S) any { return s.Throttle.Login.Forget }, time.Hour},
		{"LOGIN_PARALLEL=1", func(s *S) any { return s.Throttle.Login.Parallel }, 1},
		{"LOGIN_FAMILIAR_FOR=1h", func(s *S) any { return s.Throttle.Login.FamiliarFor }, time.Hour},
		{"LOGIN_FAMILIAR_NETWORKS=0", func(s *S) any { return s.Throttle.Login.FamiliarMost }, 0},
		{"USER_RATE_LIMIT=7 in 1s", func(s *S) any { return s.Throttle.User }, identity.Quota{Most: 7, Within: time.Second}},
		{"REGISTER_SOURCE_LIMIT=1 in 1h", func(s *S) any { return s.Throttle.RegisterSource }, [2]identity.Quota{{Most: 1, Within: time.Hour}}},
		{"REGISTER_LIMIT=0", func(s *S) any { return s.Throttle.Register }, identity.Quota{}},
		{"TRUSTED_PROXIES=10.0.0.0/8, 192.0.2.7", func(s *S) any { return s.TrustedProxies }, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32")}},
		{"ROUTES=explicit", func(s *S) any { return s.Edge.Routes }, "explicit"},
		{"ROUTES=/etc/routes.yaml", func(s *S) any { return s.Edge.Routes }, "/etc/routes.yaml"},
		{"EDGE_LOGIN_RATE_LIMIT=off", func(s *S) any { return s.Edge.LoginRateLimit.Off() }, true},
		{"EDGE_LOGIN_RATE_LIMIT=600/m  burst 900", func(s *S) any { return s.Edge.LoginRateLimit }, config.RateLimit{Requests: 600, Per: time.Minute, Burst: 900}},
		{"EDGE_LOGIN_RATE_LIMIT=7/h", func(s *S) any { return s.Edge.LoginRateLimit }, config.RateLimit{Requests: 7, Per: time.Hour, Burst: 7}},
		{"ROUTE_SOURCE=path", func(s *S) any { return s.Edge.RouteSource }, config.RouteSourcePath},
		{"FORWARD_AUTHORIZATION=true", func(s *S) any { return s.Edge.ForwardAuthorization }, true},
		{"TRUST_TRACEPARENT=true", func(s *S) any { return s.Edge.TrustTraceparent }, true},
		{"VERCEL_FRONTEND_URL=https://Atenex.vercel.app/", func(s *S) any { return s.Edge.VercelFrontend }, "https://atenex.vercel.app"},
		{"NGROK_URL=https://x.ngrok-free.app:443", func(s *S) any { return s.Edge.Ngrok }, "https://x.ngrok-free.app"},
		{"CORS_ALLOWED_ORIGINS=http://A.example:80, https://b.example:8443,,http://a.example,http://[::1]:3000", func(s *S) any { return s.Edge.Origins }, []string{"http://a.example", "https://b.example:8443", "http://[::1]:3000"}},
		{"CORS_ALLOWED_ORIGINS=none", func(s *S) any { return len(s.Edge.Origins) }, 0},
		{"POSTGRES_POOL_MIN=0", func(s *S) any { return s.Database.PoolMin }, int32(0)},
	} {
		t.Run(tc.entry, func(t *testing.T) {
			s, _ := mustLoad(t, config.Source{Environ: complete("GATEWAY_" + tc.entry)}, needAll)
			if got := tc.get(s); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestPrograms(t *testing.T) {
	s, _ := mustLoad(t, config.Source{Environ: []string{"ENVOY_BIN=/opt/envoy", "PG_BIN=/opt/pg/bin"}}, config.NeedUp)
	if s.EnvoyBin != "/opt/envoy" || s.PGBin != "/opt/pg/bin" || !s.IsSet("ENVOY_BIN") {
		t.Errorf("programs %q and %q", s.EnvoyBin, s.PGBin)
	}
}

func TestBadValues(t *testing.T) {
	for _, tc := range []struct{ entry, want string }{
		{"PROJECT_NAME=a\x07b", "holds characters that cannot be printed"},
		{"PROJECT_NAME=" + strings.Repeat("a", 201), "is longer than 200 bytes"},
		{"LOG_LEVEL=LOUD", `"LOUD" is not DEBUG, INFO, WARNING, ERROR or CRITICAL`},
		{"LISTEN=8080", `"8080" is not host:port or :port`},
		{"LISTEN=:http", `":http" has no port number (0 to 65535) after the colon`},
		{"LISTEN=:65536", `":65536" has no port number (0 to 65535) after the colon`},
		{"LISTEN=example.com:80", `"example.com:80" names a host; Envoy needs an IP address`},
		{"LISTEN=unix:///run/x", "is a unix socket, which only GATEWAY_AUTHZ_LISTEN can be"},
		{"ENVOY_ADMIN_LISTEN=1.2.3:80", `"1.2.3:80" has no good host before the colon`},
		{"AUTHZ_LISTEN=unix://run/x", "is not unix:// with an absolute path"},
		{"AUTHZ_LISTEN=unix:///run/../x", "has a path with empty, . or .. parts, or that ends in /"},
		{"AUTHZ_LISTEN=unix:///" + strings.Repeat("a", 103), "has a path of more than 103 bytes, the most that a unix socket can have"},
		{"AUTHZ_LISTEN=:x", `":x" has no port number (0 to 65535) after the colon, nor unix:///absolute/path`},
		{"LOGIN_LISTEN=unix:///run/x", "is a unix socket, which only GATEWAY_AUTHZ_LISTEN can be"},
		{"LOGIN_OPS_LISTEN=a b:1", `"a b:1" has no good host before the colon`},
		{"INGEST_SERVICE_URL=ingest:8000", "is not an http:// or https:// URL"},
		{"INGEST_SERVICE_URL=ftp://ingest", "is not an http:// or https:// URL"},
		{"INGEST_SERVICE_URL=http://", "names no host"},
		{"INGEST_SERVICE_URL=http://u:test-word@ingest", "holds a user name or password, which would never be sent"},
		{"INGEST_SERVICE_URL=http://ingest/v1", "has a path; requests keep their own, so give scheme, host and port only"},
		{"QUERY_SERVICE_URL=http://query?x=1", "has a query"},
		{"QUERY_SERVICE_URL=http://query#", "has a fragment"},
		{"QUERY_SERVICE_URL=http://query:99999", "has a port that is not a number from 1 to 65535"},
		{"QUERY_SERVICE_URL=http://query:", "has a colon but no port"},
		{"AUTH_SERVICE_URL=http://%41", "is not a URL"},
		{"AUTH_SERVICE_URL=http://a_-.b", "names a host that cannot be one"},
		{"HTTP_CLIENT_TIMEOUT=0", `"0" is not a number of seconds from 0.001 to 86400, such as 60 or 0.5`},
		{"HTTP_CLIENT_TIMEOUT=NaN", `"NaN" is not a number of seconds from 0.001 to 86400, such as 60 or 0.5`},
		{"HTTP_CLIENT_TIMEOUT=1e3", `"1e3" is not a number of seconds from 0.001 to 86400, such as 60 or 0.5`},
		{"STREAM_IDLE_TIMEOUT=5m", `"5m" is not a number of seconds from 0.001 to 86400, such as 60 or 0.5`},
		{"STREAM_MAX_DURATION=0.5", `"0.5" is neither 0 nor a number of seconds from 1 to 86400, such as 3600`},
		{"STREAM_MAX_DURATION=off", `"off" is neither 0 nor a number of seconds from 1 to 86400, such as 3600`},
		{"HTTP_CLIENT_MAX_CONNECTIONS=0", `"0" is not a whole number from 1 to 1000000`},
		{"HTTP_CLIENT_MAX_CONNECTIONS=+5", `"+5" is not a whole number from 1 to 1000000`},
		{"HTTP_CLIENT_MAX_CONNECTIONS=99999999999999999999", `"99999999999999999999" is not a whole number from 1 to 1000000`},
		{"HTTP_CLIENT_MAX_KEEPALIVE_CONNECTIONS=-1", `"-1" is not a whole number from 0 to 1000000`},
		{"JWT_ALGORITHM=none", `"none" is not HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA`},
		{"JWT_ALGORITHM=hs256", `"hs256" is not HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA`},
		{"JWT_ALLOW_SHORT_SECRET=yes", `"yes" is not true or false`},
		{"JWT_LEEWAY=-1s", `"-1s" is not a duration from 0s to 1h, such as 90s, 15m or 1h`},
		{"JWT_LEEWAY=2h", `"2h" is not a duration from 0s to 1h, such as 90s, 15m or 1h`},
		{"ACCESS_TOKEN_TTL=0s", `"0s" is not a duration from 1s to 8760h, such as 90s, 15m or 1h`},
		{"ACCESS_TOKEN_TTL=3600", `"3600" is not a duration from 1s to 8760h, such as 90s, 15m or 1h`},
		{"SESSION_MAX_LIFETIME=1s", `"1s" is not a duration from 2s to 87600h, such as 90s, 15m or 1h`},
		{"INVITATION_ROLES=user,", `"user," is not a list of roles such as user,admin: each is one word of at most 64 characters`},
		{"INVITATION_ROLES=two words", `"two words" is not a list of roles such as user,admin: each is one word of at most 64 characters`},
		{"AUDIT_RETENTION=0d", `"0d" is not a number of days from 1d to 36500d, or off`},
		{"AUDIT_RETENTION=8760h", `"8760h" is not a number of days from 1d to 36500d, or off`},
		{"LEGACY_TOKENS_UNTIL=tomorrow", `"tomorrow" is not an RFC 3339 time such as 2031-05-17T00:00:00Z`},
		{"LEGACY_TOKENS_UNTIL=2031-05-17", `"2031-05-17" is not an RFC 3339 time such as 2031-05-17T00:00:00Z`},
		{"LEGACY_TOKENS_UNTIL=0001-01-01T00:00:00Z", "is the zero time"},
		{"JWT_PUBLIC_KEY=nonsense", `is not PEM ("-----BEGIN ..." to "-----END ...")`},
		{"TOKEN_PROFILE=auth0", `"auth0" is not native or supabase`},
		{"USER_CHECK=maybe", `"maybe" is not required or off`},
		{"COMPANY_CHECK=on", `"on" is not required or off`},
		{"POSTGRES_SERVER=db:5432", `"db:5432" is not a host name, an IP address or the directory of a unix socket; the port goes into GATEWAY_POSTGRES_PORT`},
		{"POSTGRES_PORT=0", `"0" is not a port number (1 to 65535)`},
		{"POSTGRES_PORT=tcp://10.0.0.1:5432", `"tcp://10.0.0.1:5432" is not a port number (1 to 65535); Kubernetes sets such a value for a Service of this name: set enableServiceLinks to false`},
		{"POSTGRES_DB=/x", "begins with a slash"},
		{"POSTGRES_SSLMODE=on", `"on" is not disable, allow, prefer, require, verify-ca or verify-full`},
		{"POSTGRES_POOL_MAX=0", `"0" is not a whole number from 1 to 10000`},
		{"ACTIVITY_CACHE=maybe", `"maybe" is not on or off`},
		{"ACTIVITY_CACHE_BYTES=256MB", `"256MB" is not a whole number from 1048576 to 4294967295`},
		{"ACTIVITY_CACHE_BYTES=1048575", `"1048575" is not a whole number from 1048576 to 4294967295`},
		{"PROOF_OF_LIFE=299ms", `"299ms" is not a duration from 300ms to 10s, such as 90s, 15m or 1h`},
		{"PROOF_OF_LIFE=11s", `"11s" is not a duration from 300ms to 10s, such as 90s, 15m or 1h`},
		{"PROOF_OF_LIFE=0", `"0" is not a duration from 300ms to 10s, such as 90s, 15m or 1h`},
		{"DEFAULT_COMPANY_ID=acme", `"acme" is not a UUID of 36 characters with hyphens`},
		{"DEFAULT_COMPANY_ID={018f0000-0000-7000-8000-00000000000a}", `"{018f0000-0000-7000-8000-00000000000a}" is not a UUID of 36 characters with hyphens`},
		{"DEFAULT_COMPANY_ID=" + identity.CompanyID{}.String(), "is the nil UUID, which is nobody's"},
		{"COMPANY_JOIN_POLICY=open", `"open" is not invited or any`},
		{"PASSWORD_SCHEME=md5", `"md5" is not argon2id or bcrypt`},
		{"PASSWORD_UPGRADE=1", `"1" is not true or false`},
		{"TRUSTED_PROXIES=10.0.0.1/8", `entry 1, "10.0.0.1/8", has bits beyond its length; write 10.0.0.0/8`},
		{"TRUSTED_PROXIES=10.0.0.0/8,", `entry 2, "", is not a CIDR such as 10.0.0.0/8`},
		{"TRUSTED_PROXIES=::ffff:10.0.0.0/104", `entry 1, "::ffff:10.0.0.0/104", is an IPv4 network in IPv6 form; write it as IPv4`},
		{"ROUTES=routes\x01.yaml", "holds characters that cannot be printed"},
		{"EDGE_LOGIN_RATE_LIMIT=10", `"10" is not a rate such as 10/s burst 30 (s, m or h), or off`},
		{"EDGE_LOGIN_RATE_LIMIT=0/s burst 30", `the rate "0" is not a whole number from 1 to 1000000`},
		{"EDGE_LOGIN_RATE_LIMIT=10/s burst 5", "the burst is smaller than the rate, which could then never be reached"},
		{"ROUTE_SOURCE=Path", `"Path" is not extensions or path`},
		{"FORWARD_AUTHORIZATION=on", `"on" is not true or false`},
		{"VERCEL_FRONTEND_URL=http://atenex.vercel.app", "is not an https:// origin"},
		{"VERCEL_FRONTEND_URL=https://atenex.vercel.app/login", "has a path or a slash at its end; an origin is scheme://host[:port]"},
		{"NGROK_URL=https://*.ngrok.app", "names a host that cannot be one"},
		{"CORS_ALLOWED_ORIGINS=*", "entry 1 holds a *; origins are matched whole"},
		{"CORS_ALLOWED_ORIGINS=http://a,https://b.example/", "entry 2 has a path or a slash at its end; an origin is scheme://host[:port]"},
		{"CORS_ALLOWED_ORIGINS=null", "entry 1 is not an http:// or https:// URL"},
		{"CORS_ALLOWED_ORIGINS=,", "lists no origin; write none to allow none"},
		{"SUPABASE_URL=supabase.example", "is not an http:// or https:// URL"},
		{"SUPABASE_URL=https://u:1/test-word@supabase.example", "holds a user name or password, which would never be sent"},
		{"SUPABASE_URL=https://u:test-word@supabase.example", "holds a user name or password, which would never be sent"},

		{"JWT_JWKS_URL=issuer.example/jwks", "is not an http:// or https:// URL"},
		{"JWT_JWKS_URL=https://u:test-word@issuer.example/jwks", "holds a user name or password, which would never be sent"},
		{"JWT_JWKS_URL=https://issuer.example/jwks?key=test-word", "has a query"},

		{"DEFAULT_COMPANY_NAME=a\tb", "holds characters that cannot be printed"},
		{"REGISTRATION=on", `"on" is not off, postgres or supabase`},
		{"REGISTRATION_CONCEAL=yes", `"yes" is not true or false`},
		{"I_ACCEPT_OPEN_TENANCY=yes", `"yes" is not true or false`},
		{"SUPABASE_SERVICE_ROLE_KEY=your_supabase_service_role_key_here", "is the placeholder of the example files"},
		{"SUPABASE_SERVICE_ROLE_KEY=test word", "holds characters that no such key has"},
		{"SUPABASE_SERVICE_ROLE_KEY= ", "is blank"},
		{"SUPABASE_EMAIL_CONFIRM=1", `"1" is not true or false`},
		{"LOGIN_THROTTLE=of", `"of" is not on or off`},
		{"LOGIN_SOURCE_RATE_LIMIT=10", `"10" is not a rate such as 10/s burst 30 (s, m or h), or off`},
		{"LOGIN_SOURCE_FAILURES=30", `"30" is not a limit such as 30 in 10m, or 0`},
		{"LOGIN_SOURCE_FAILURES=0 in 10m", `the number "0" is not a whole number from 1 to 1000`},
		{"LOGIN_ACCOUNT_FAILURES=100 in a day", `"100 in a day" is not a limit such as 30 in 10m, or 0`},
		{"LOGIN_ACCOUNT_FAILURES=100 in day", `the time "day" is not a duration from 1s to 8760h, such as 90s, 15m or 1h`},
		{"LOGIN_WAIT_AFTER=-1", `"-1" is not a whole number from 0 to 1000`},
		{"LOGIN_WAIT=0s", `"0s" is not a duration from 100ms to 24h, such as 90s, 15m or 1h`},
		{"REGISTER_SOURCE_LIMIT=5 in 1h,20 in 24h,1 in 1s", "lists more than two limits"},
		{"REGISTER_SOURCE_LIMIT=5 in 1h,", `"" is not a limit such as 30 in 10m, or 0`},
	} {
		t.Run(tc.entry, func(t *testing.T) {
			name, _, _ := strings.Cut(tc.entry, "=")
			if strings.HasPrefix(tc.want, " ") {
				name = strings.TrimSuffix(name, "_FILE")
			}
			got := faults(t, config.Source{Environ: complete("GATEWAY_" + tc.entry)}, needAll)
			want := "GATEWAY_" + name + ": " + strings.TrimSpace(tc.want)
			if len(got) != 1 || got[0] != want {
				t.Errorf("faults:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
			}
		})
	}
}
