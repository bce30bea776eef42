package config

import (
	"log/slog"
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
	rows = append(rows, issuerRows()...)
	rows = append(rows, databaseRows()...)
	rows = append(rows, peopleRows()...)
	rows = append(rows, throttleRows()...)
	rows = append(rows, mailRows()...)
	rows = append(rows, edgeRows()...)
	rows = append(rows, routeRows()...)
	rows = append(rows, edgeTLSRows()...)
	rows = append(rows, supabaseRows()...)
	rows = append(rows, decisionRows()...)
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
			name: "STREAM_MAX_DURATION", fallback: "0", by: NeedAuthz | NeedEnvoy,
			meaning: "Seconds, 1 to 86400, after which whatever a token was needed for is cut, streams, WebSockets and uploads included, and with its token at the latest; `0`: nothing is cut. See docs/streams.md.",
			read:    into(secondsOrNone, func(s *Settings) *time.Duration { return &s.Upstreams.StreamMax }),
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
		{
			name: "DEFAULT_COMPANY_NAME", by: NeedLogin,
			meaning: "The company of those who register, by its name, where `DEFAULT_COMPANY_ID` is not set. A name that two companies have finds neither.",
			read:    into(printable(800), func(s *Settings) *string { return &s.Companies.DefaultName }),
		},
		{
			name: "COMPANY_JOIN_POLICY", fallback: "invited", by: NeedLogin,
			meaning: "`invited`: a user moves only to a company that it belongs or is invited to. `any`: to every company that it names; for migration only, and warned about.",
			read: func(s *Settings, text string) error {
				policy, err := oneOf("invited", "any")(text)
				s.Companies.JoinAny = policy == "any"
				return err
			},
		},
		{
			name: "INVITATION_ROLES", fallback: "user,admin", by: NeedLogin,
			meaning: "Comma-separated roles that the admin of a company may give to those whom it invites. The operator's command may give any.",
			read:    into(roles, func(s *Settings) *[]string { return &s.Companies.InvitationRoles }),
		},
		{
			name: "AUDIT_RETENTION", fallback: "365d", by: NeedLogin,
			meaning: "How long the audit log is kept, in whole days, `1d` to `36500d`; it goes by months. `off`: for ever.",
			read:    into(days, func(s *Settings) *time.Duration { return &s.AuditRetention }),
		},
		{
			name: "REGISTRATION", fallback: RegistrationOff, by: NeedLogin,
			meaning: "Where `POST /api/v1/auth/register` makes users: in the database (`postgres`), at `SUPABASE_URL` (`supabase`), or nowhere (`off`).",
			read:    into(oneOf(RegistrationOff, RegistrationPostgres, RegistrationSupabase), func(s *Settings) *string { return &s.Registration.At }),
		},
		{
			name: "REGISTRATION_CONCEAL", fallback: "false", by: NeedLogin,
			meaning: "`true`: an address that is taken is answered like a new one, in the same time.",
			read:    into(boolean, func(s *Settings) *bool { return &s.Registration.Conceal }),
		},
		{
			name: "I_ACCEPT_OPEN_TENANCY", fallback: "false", by: NeedLogin,
			meaning: "`true`: allow registration together with `COMPANY_JOIN_POLICY=any`, by which every stranger can enter every company whose id it knows.",
			read: func(_ *Settings, text string) error {
				_, err := boolean(text)
				return err
			},
		},
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
	}
}

func edgeRows() []row {
	return []row{
		{
			name: "ROUTES", fallback: RoutesPrefix, by: NeedAuthz | NeedEnvoy, names: aFile,
			meaning: "The route table: `prefix`, `explicit`, or a file of one's own ([manual](routes.md)); a relative name is of the working directory.",
			read:    into(printable(4096), func(s *Settings) *string { return &s.Edge.Routes }),
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
			name: "TRUST_TRACEPARENT", fallback: "false", by: NeedEnvoy,
			meaning: "With tracing on (`OTEL_EXPORTER_OTLP_ENDPOINT`), `true`: a client's `traceparent` names the trace that its request belongs to, and with a `parentbased_` sampler says whether it is kept. For a gate behind another one; `false`: it is removed.",
			read:    into(boolean, func(s *Settings) *bool { return &s.Edge.TrustTraceparent }),
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
			read:    into(webURL, func(s *Settings) **url.URL { return &s.Supabase.URL }),
		},
		{
			name: "SUPABASE_SERVICE_ROLE_KEY", secret: true, by: NeedLogin,
			meaning: "The key for Supabase's admin API, for `REGISTRATION=supabase`.",
			read:    into(serviceKey, func(s *Settings) *Secret { return &s.Supabase.ServiceRoleKey }),
		},
		{
			name: "SUPABASE_EMAIL_CONFIRM", fallback: "false", by: NeedLogin,
			meaning: "`true`: who registers counts as confirmed, and gets no mail.",
			read:    into(boolean, func(s *Settings) *bool { return &s.Supabase.EmailConfirm }),
		},
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
