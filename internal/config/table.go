package config

import (
	"log/slog"
	"net/netip"
	"net/url"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
)

// table is every setting, in the order of the manual.
func table() []row {
	var rows []row
	rows = append(rows, generalRows()...)
	rows = append(rows, addressRows()...)
	rows = append(rows, upstreamRows()...)
	rows = append(rows, tokenRows()...)
	rows = append(rows, databaseRows()...)
	rows = append(rows, peopleRows()...)
	rows = append(rows, edgeRows()...)
	rows = append(rows, supabaseRows()...)
	rows = append(rows, programRows()...)
	return rows
}

func generalRows() []row {
	return []row{
		{
			name: "PROJECT_NAME", fallback: "Gatehouse", by: NeedLogin,
			meaning: "The name in `/` and `/health`. At most 200 bytes of printable text.",
			read:    into(printable(200), func(s *Settings) *string { return &s.ProjectName }),
		},
		{
			name: "LOG_LEVEL", fallback: "INFO", by: everybody,
			meaning: "`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`, in any letter case.",
			read:    into(parseLevel, func(s *Settings) *slog.Level { return &s.LogLevel }),
		},
	}
}

func addressRows() []row {
	const plain = "`host:port` or `:port`; port 0 takes a free one."
	return []row{
		{
			name: "LISTEN", fallback: "0.0.0.0:8080", by: NeedEnvoy,
			meaning: "Where Envoy serves clients. An IP address, `localhost` or no host, and a port; port 0 takes a free one.",
			read:    into(envoyAddress, func(s *Settings) *Address { return &s.Listen.Public }),
		},
		{
			name: "ENVOY_ADMIN_LISTEN", fallback: "127.0.0.1:9901", by: NeedEnvoy,
			meaning: "Envoy's admin page; never for the public. An IP address, `localhost` or no host, and a port.",
			read:    into(envoyAddress, func(s *Settings) *Address { return &s.Listen.EnvoyAdmin }),
		},
		{
			name: "AUTHZ_LISTEN", fallback: ":9191", by: NeedAuthz | NeedEnvoy,
			meaning: "authz over gRPC. " + plain + " Or `unix:///absolute/path`.",
			read:    into(tcpOrUnixAddress, func(s *Settings) *Address { return &s.Listen.Authz }),
		},
		{
			name: "AUTHZ_OPS_LISTEN", fallback: ":9192", by: NeedAuthz,
			meaning: "`/metrics`, `/livez` and `/readyz` of authz. " + plain,
			read:    into(tcpAddress, func(s *Settings) *Address { return &s.Listen.AuthzOps }),
		},
		{
			name: "LOGIN_LISTEN", fallback: ":8081", by: NeedLogin | NeedEnvoy,
			meaning: "The login service. " + plain,
			read:    into(tcpAddress, func(s *Settings) *Address { return &s.Listen.Login }),
		},
		{
			name: "LOGIN_OPS_LISTEN", fallback: ":8082", by: NeedLogin,
			meaning: "`/metrics`, `/livez` and `/readyz` of the login service. " + plain,
			read:    into(tcpAddress, func(s *Settings) *Address { return &s.Listen.LoginOps }),
		},
	}
}

func upstreamRows() []row {
	const form = "`http://host[:port]` or `https://host[:port]`; no path, because requests keep their own."
	return []row{
		{
			name: "INGEST_SERVICE_URL", by: NeedEnvoy, required: NeedEnvoy,
			meaning: "The ingest service, " + form,
			read:    into(upstreamURL, func(s *Settings) **url.URL { return &s.Upstreams.Ingest }),
		},
		{
			name: "QUERY_SERVICE_URL", by: NeedEnvoy, required: NeedEnvoy,
			meaning: "The query service, " + form,
			read:    into(upstreamURL, func(s *Settings) **url.URL { return &s.Upstreams.Query }),
		},
		{
			name: "AUTH_SERVICE_URL", by: NeedEnvoy,
			meaning: "The auth service, " + form + " Unset: `/api/v1/auth/*` answers 501.",
			read:    into(upstreamURL, func(s *Settings) **url.URL { return &s.Upstreams.Auth }),
		},
		{
			name: "HTTP_CLIENT_TIMEOUT", fallback: "60", by: NeedEnvoy,
			meaning: "Seconds, 0.001 to 86400, to the first byte of ingest, query and auth, and between bytes. Never the length of a stream or an upload.",
			read:    into(seconds, func(s *Settings) *time.Duration { return &s.Upstreams.FirstByte }),
		},
		{
			name: "STREAM_IDLE_TIMEOUT", fallback: "300", by: NeedEnvoy,
			meaning: "Seconds, 0.001 to 86400, after which a silent stream or WebSocket is cut.",
			read:    into(seconds, func(s *Settings) *time.Duration { return &s.Upstreams.StreamIdle }),
		},
		{
			name: "HTTP_CLIENT_MAX_CONNECTIONS", fallback: "200", by: NeedEnvoy,
			meaning: "Connections to each upstream, 1 to 1000000.",
			read:    into(whole[uint32](1, 1_000_000), func(s *Settings) *uint32 { return &s.Upstreams.MaxConnections }),
		},
		{
			name: "HTTP_CLIENT_MAX_KEEPALIVE_CONNECTIONS", fallback: "100", by: NeedEnvoy,
			meaning: "Checked, and without effect: Envoy keeps every connection it has for reuse, within `HTTP_CLIENT_MAX_CONNECTIONS`, and has no limit of its own for idle ones.",
			read: func(_ *Settings, text string) error {
				_, err := whole[uint32](0, 1_000_000)(text)
				return err
			},
		},
	}
}

func peopleRows() []row {
	return []row{
		{
			name: "DEFAULT_COMPANY_ID", by: NeedLogin,
			meaning: "The UUID of the company for users who have none.",
			read:    into(companyID, func(s *Settings) *identity.CompanyID { return &s.Companies.Default }),
		},
		{name: "DEFAULT_COMPANY_NAME", by: NeedLogin, later: true, meaning: "The default company by its name, for registration."},
		{
			name: "COMPANY_JOIN_POLICY", fallback: "invited", by: NeedLogin,
			meaning: "`invited`: a user moves only to a company that it belongs or is invited to. `any`: to every company that it names; for migration only, and warned about.",
			read: func(s *Settings, text string) error {
				policy, err := oneOf("invited", "any")(text)
				s.Companies.JoinAny = policy == "any"
				return err
			},
		},
		{name: "REGISTRATION", defaultText: "`off`", by: NeedLogin, later: true, accepts: []string{"off"}, meaning: "Whether and where strangers can register."},
		{name: "REGISTRATION_CONCEAL", defaultText: "`false`", by: NeedLogin, later: true, accepts: []string{"false"}, meaning: "Answer a taken address like a new one."},
		{name: "I_ACCEPT_OPEN_TENANCY", defaultText: "`false`", by: NeedLogin, later: true, accepts: []string{"false"}, meaning: "Allow registration together with `COMPANY_JOIN_POLICY=any`."},
		{
			name: "PASSWORD_SCHEME", fallback: SchemeArgon2id, by: NeedLogin | NeedDatabase,
			meaning: "The scheme of new password hashes: `argon2id` or `bcrypt`.",
			read:    into(oneOf(SchemeArgon2id, SchemeBcrypt), func(s *Settings) *string { return &s.Passwords.Scheme }),
		},
		{
			name: "PASSWORD_UPGRADE", fallback: "true", by: NeedLogin,
			meaning: "`true`: a hash of another scheme is replaced at a successful login.",
			read:    into(boolean, func(s *Settings) *bool { return &s.Passwords.Upgrade }),
		},
		{
			name: "BCRYPT_TRUNCATE_72", fallback: "false", by: NeedLogin,
			meaning: "`true`: a password of more than 72 bytes is cut for a bcrypt hash, as the replaced gateways did, and such a row is never upgraded. `false`: it does not match.",
			read:    into(boolean, func(s *Settings) *bool { return &s.Passwords.BcryptTruncate72 }),
		},
		{
			name: "LOGIN_THROTTLE", by: NeedLogin, later: true, accepts: []string{"off"},
			defaultText: "unset",
			meaning:     "The limit on guessing passwords. `off` is for tests and load measurements, and warned about.",
		},
		{
			name: "TRUSTED_PROXIES", fallback: "127.0.0.0/8,::1/128", by: NeedLogin,
			meaning: "Comma-separated CIDRs whose `X-Forwarded-For` the login service believes, counted from the right.",
			read:    into(prefixes, func(s *Settings) *[]netip.Prefix { return &s.TrustedProxies }),
		},
	}
}

func edgeRows() []row {
	return []row{
		{
			name: "ROUTES", fallback: RoutesPrefix, by: NeedEnvoy,
			meaning: "The route table: `prefix` or `explicit`. A table in a file is not available in this version.",
			read:    into(routeTable, func(s *Settings) *string { return &s.Edge.Routes }),
		},
		{
			name: "EDGE_LOGIN_RATE_LIMIT", fallback: "10/s burst 30", by: NeedEnvoy,
			meaning: "Requests for login and register per client address: `N/s`, `N/m` or `N/h`, then `burst M` (N if left out); or `off`.",
			read:    into(parseRateLimit, func(s *Settings) *RateLimit { return &s.Edge.LoginRateLimit }),
		},
		{
			name: "FORWARD_AUTHORIZATION", fallback: "false", by: NeedEnvoy,
			meaning: "`true`: `Authorization` also reaches ingest and query.",
			read:    into(boolean, func(s *Settings) *bool { return &s.Edge.ForwardAuthorization }),
		},
		{
			name: "VERCEL_FRONTEND_URL", by: NeedEnvoy,
			meaning: "The production origin of the web client, `https://host[:port]`. Its Vercel previews may call too.",
			read:    into(httpsOrigin, func(s *Settings) *string { return &s.Edge.VercelFrontend }),
		},
		{
			name: "NGROK_URL", by: NeedEnvoy,
			meaning: "An ngrok origin, `https://host[:port]`.",
			read:    into(httpsOrigin, func(s *Settings) *string { return &s.Edge.Ngrok }),
		},
		{
			name: "CORS_ALLOWED_ORIGINS", by: NeedEnvoy,
			fallback: "http://localhost:3000,http://localhost:3001,http://localhost:3002,http://localhost:3003,http://localhost:3004," +
				"http://localhost:3005,http://localhost:3006,http://localhost:3007,http://localhost:3008,http://localhost:3009",
			defaultText: "`http://localhost:3000` to `http://localhost:3009`",
			meaning:     "Comma-separated exact origins, `scheme://host[:port]`, that may call from a browser beside the two above. `none`: only those two.",
			read:        into(originList, func(s *Settings) *[]string { return &s.Edge.Origins }),
		},
	}
}

func supabaseRows() []row {
	return []row{
		{
			name: "SUPABASE_URL", by: verifying,
			meaning: "The Supabase project, an http(s) URL. Setting it makes `supabase` the default of `TOKEN_PROFILE`.",
			read: func(_ *Settings, text string) error {
				_, err := webURL(text)
				return err
			},
		},
		{name: "SUPABASE_SERVICE_ROLE_KEY", secret: true, by: NeedLogin, later: true, meaning: "The key for Supabase's admin API."},
		{name: "SUPABASE_EMAIL_CONFIRM", defaultText: "`false`", by: NeedLogin, later: true, accepts: []string{"false"}, meaning: "Whether new Supabase users count as confirmed."},
	}
}

func programRows() []row {
	return []row{
		{
			name: "ENVOY_BIN", by: NeedUp,
			meaning: "The `envoy` program for `gatehouse up` and `envoy validate`. Unset: it is looked for.",
			read:    into(printable(4096), func(s *Settings) *string { return &s.EnvoyBin }),
		},
		{
			name: "PG_BIN", by: NeedUp,
			meaning: "The directory of `initdb` and `postgres` for `gatehouse up`. Unset: it is looked for.",
			read:    into(printable(4096), func(s *Settings) *string { return &s.PGBin }),
		},
	}
}
