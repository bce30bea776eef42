package config

import (
	"math"
	"net/url"
	"strconv"
	"time"
)

func tokenRows() []row {
	return []row{
		{
			name: "JWT_SECRET", secret: true, by: verifying, blankRefused: true,
			meaning: "The key of `HS*` tokens, at least 32 bytes; required for `HS*` where no JWK set is given. With another algorithm, or beside a JWK set, it may be set for `HS*` tokens that are still in use.",
			read:    into(opaque, func(s *Settings) *Secret { return &s.Tokens.Secret }),
		},
		{
			name: "JWT_ALLOW_SHORT_SECRET", fallback: "false", by: verifying,
			meaning: "`true`: accept a `JWT_SECRET` shorter than 32 bytes; warned about.",
			read: func(_ *Settings, text string) error {
				_, err := boolean(text)
				return err
			},
		},
		{
			name: "JWT_ALGORITHM", fallback: "HS256", by: verifying,
			meaning: "`HS256`, `HS384`, `HS512`, `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512` or `EdDSA`; never `none`. Keys of a JWK set name their own; there it says what `JWT_SECRET` is for.",
			read:    into(oneOf(algorithms()...), func(s *Settings) *string { return &s.Tokens.Algorithm }),
		},
		{
			name: "JWT_PUBLIC_KEY", file: true, by: verifying,
			meaning: "PEM public key that verifies tokens. On one line, `\\n` stands for a line break.",
			read:    into(publicPEM, func(s *Settings) *string { return &s.Tokens.PublicKey }),
			show:    func(s *Settings) string { return "[PEM of " + strconv.Itoa(len(s.Tokens.PublicKey)) + " bytes]" },
		},
		{
			name: "JWT_PRIVATE_KEY", secret: true, by: verifying,
			meaning: "PEM private key that signs tokens, and verifies them where no public key is set. On one line, `\\n` stands for a line break.",
			read:    into(privatePEM, func(s *Settings) *Secret { return &s.Tokens.PrivateKey }),
		},
		{
			name: "JWT_KEYS", secret: true, by: verifying,
			meaning: "A JWK set, `{\"keys\":[…]}`: each key with its `alg` and `kid` (its thumbprint where it has none), one at most with `\"key_ops\":[\"sign\"]`, which signs; login needs one. Given as a file, it is read anew when it changes and on SIGHUP.",
			read:    into(opaque, func(s *Settings) *Secret { return &s.Tokens.Keys }),
			path:    func(s *Settings, name string) { s.Tokens.KeysFile = name },
		},
		{
			name: "JWT_JWKS_URL", by: verifying,
			meaning: "The JWK set of another issuer, an http(s) URL: fetched at start, every five minutes and for a `kid` that is not known. `http://` past this machine is warned about.",
			read:    into(webURL, func(s *Settings) **url.URL { return &s.Tokens.JWKSURL }),
		},
		{
			name: "TOKEN_PROFILE", by: verifying, defaultText: "`supabase` where `SUPABASE_URL` is set, else `native`",
			meaning: "How claims are written: `native` or `supabase`.",
			read: func(s *Settings, text string) error {
				profile, err := oneOf(string(ProfileNative), string(ProfileSupabase))(text)
				s.Tokens.Profile = Profile(profile)
				return err
			},
			show: func(s *Settings) string { return string(s.Tokens.Profile) },
		},
		{
			name: "USER_CHECK", fallback: string(CheckRequired), by: services,
			meaning: "`required`: the user behind a token is looked up. `off`: neither user, session nor company is; only with the profile `supabase`, and warned about.",
			read:    into(check, func(s *Settings) *Check { return &s.Checks.User }),
		},
		{
			name: "COMPANY_CHECK", by: services, defaultText: "`required`; `off` with the profile `supabase`",
			meaning: "Whether a strict route asks the database if the user still belongs to the token's company: `required` or `off`.",
			read:    into(check, func(s *Settings) *Check { return &s.Checks.Company }),
			show:    func(s *Settings) string { return string(s.Checks.Company) },
		},
		{
			name: "JWT_AUDIENCE", by: verifying, defaultText: "unset; `authenticated` with the profile `supabase`",
			meaning: "If set, `aud` must contain it.",
			read:    into(printable(200), func(s *Settings) *string { return &s.Tokens.Audience }),
			show:    func(s *Settings) string { return s.Tokens.Audience },
		},
		{
			name: "JWT_ISSUER", by: verifying,
			meaning: "If set, `iss` must equal it.",
			read:    into(printable(1000), func(s *Settings) *string { return &s.Tokens.Issuer }),
		},
		{
			name: "JWT_LEEWAY", fallback: "0s", by: verifying,
			meaning: "Clock skew allowed on `exp`, `nbf` and `iat`, `0s` to `1h`.",
			read:    into(duration(0, time.Hour), func(s *Settings) *time.Duration { return &s.Tokens.Leeway }),
		},
		{
			name: "ACCESS_TOKEN_TTL", fallback: "24h", by: signing,
			meaning: "How long an issued token lives, `1s` to `8760h`.",
			read:    into(duration(time.Second, 8760*time.Hour), func(s *Settings) *time.Duration { return &s.Tokens.TTL }),
		},
		{
			name: "SESSION_MAX_LIFETIME", fallback: "720h", by: NeedLogin,
			meaning: "How long after its login a session ends whatever happens in it, `2s` to `87600h`. No token outlives its session.",
			read:    into(duration(2*time.Second, 87_600*time.Hour), func(s *Settings) *time.Duration { return &s.Tokens.SessionLifetime }),
		},
		{
			name: "REFRESH_TOKEN_TTL", fallback: "off", by: NeedLogin,
			meaning: "How long a refresh token waits to be used, `1m` to `8760h`, such as `168h`; each is good once, and none outlives its session. `off`: there are none. With them, set `ACCESS_TOKEN_TTL=1h`.",
			read: func(s *Settings, text string) (err error) {
				if text != "off" {
					s.Tokens.RefreshTTL, err = duration(time.Minute, 8760*time.Hour)(text)
				}
				return err
			},
		},
		{
			name: "LEGACY_TOKENS_UNTIL", by: verifying,
			meaning: "RFC 3339 time after which tokens without `kid` are refused. Unset: they are accepted, with a warning at start.",
			read:    into(rfc3339, func(s *Settings) *time.Time { return &s.Tokens.LegacyUntil }),
		},
	}
}

func databaseRows() []row {
	return []row{
		{
			name: "DATABASE_URL", secret: true, by: storing, defaultText: "from the six below",
			meaning: "The database as one `postgres://user:password@host:port/name` URL; wins over the six below.",
			read:    into(databaseURL, func(s *Settings) *Secret { return &s.Database.URL }),
			show:    func(s *Settings) string { return maskDatabaseURL(s.Database.URL.Reveal()) },
		},
		{
			name: "POSTGRES_SERVER", fallback: "localhost", by: storing,
			meaning: "Host name, IP address or absolute directory of a unix socket.",
			read:    into(databaseHost, func(s *Settings) *string { return &s.Database.server }),
		},
		{
			name: "POSTGRES_PORT", fallback: "5432", by: storing,
			meaning: "1 to 65535.",
			read:    into(port, func(s *Settings) *uint16 { return &s.Database.port }),
		},
		{
			name: "POSTGRES_DB", fallback: "atenex", by: storing,
			meaning: "The database's name.",
			read:    into(databaseName, func(s *Settings) *string { return &s.Database.name }),
		},
		{
			name: "POSTGRES_USER", fallback: "postgres", by: storing,
			meaning: "The database user.",
			read:    into(printable(63), func(s *Settings) *string { return &s.Database.user }),
		},
		{
			name: "POSTGRES_PASSWORD", secret: true, by: storing,
			meaning: "Its password, of any characters. Unset: none is sent.",
			read:    into(databasePassword, func(s *Settings) *Secret { return &s.Database.password }),
		},
		{
			name: "POSTGRES_SSLMODE", fallback: "prefer", by: storing,
			meaning: "`disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`.",
			read:    into(oneOf(sslModes()...), func(s *Settings) *string { return &s.Database.sslMode }),
		},
		{
			name: "POSTGRES_POOL_MIN", fallback: "5", by: services,
			meaning: "Connections kept open, 0 to 10000.",
			read:    into(whole[int32](0, 10_000), func(s *Settings) *int32 { return &s.Database.PoolMin }),
		},
		{
			name: "POSTGRES_POOL_MAX", fallback: "20", by: services,
			meaning: "Connections at most, 1 to 10000.",
			read:    into(whole[int32](1, 10_000), func(s *Settings) *int32 { return &s.Database.PoolMax }),
		},
		{
			name: "ACTIVITY_CACHE", fallback: "on", by: NeedAuthz,
			meaning: "`on`: authz answers from memory what PostgreSQL said of a user, and forgets it at the commit that changes it. `off`: it asks PostgreSQL on every check.",
			read: func(s *Settings, text string) error {
				value, err := oneOf("on", "off")(text)
				s.Activity.Cache = value == "on"
				return err
			},
		},
		{
			name: "ACTIVITY_CACHE_BYTES", fallback: "268435456", by: NeedAuthz,
			meaning: "The memory for that, 1048576 to 4294967295; the default holds a million users, and no more than half of the process's memory limit is used. When it is full, those who were not seen for longest are forgotten.",
			read:    into(whole[uint32](1<<20, math.MaxUint32), func(s *Settings) *uint32 { return &s.Activity.Bytes }),
		},
		{
			name: "TOKEN_CACHE", fallback: "on", by: NeedAuthz,
			meaning: "`on`: authz verifies a token once and remembers it until it ends. `off`: it verifies it on every check.",
			read: func(s *Settings, text string) error {
				value, err := oneOf("on", "off")(text)
				s.Activity.TokenCache = value == "on"
				return err
			},
		},
		{
			name: "TOKEN_CACHE_BYTES", fallback: "67108864", by: NeedAuthz,
			meaning: "The memory for that, 1048576 to 4294967295; the default holds 80,000 tokens of 400 bytes, and no more than an eighth of the process's memory limit is used. When it is full, those that were not seen for longest are forgotten.",
			read:    into(whole[uint32](1<<20, math.MaxUint32), func(s *Settings) *uint32 { return &s.Activity.TokenBytes }),
		},
		{
			name: "PROOF_OF_LIFE", fallback: "1s", by: NeedAuthz,
			meaning: "What is trusted for how long: memory counts only while PostgreSQL has proved within this time, `300ms` to `10s`, that every change is heard (it is asked four times as often). Past it every check asks PostgreSQL, and is refused with 503 where that does not answer.",
			read:    into(duration(300*time.Millisecond, 10*time.Second), func(s *Settings) *time.Duration { return &s.Activity.ProofOfLife }),
		},
	}
}
