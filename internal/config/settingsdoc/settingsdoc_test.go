package settingsdoc_test

import (
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/config/settingsdoc"
)

func TestEverySettingHasOneRow(t *testing.T) {
	rows := make(map[string][]string)
	for line := range strings.Lines(settingsdoc.Markdown()) {
		if cells := strings.Split(strings.TrimSpace(line), " | "); strings.HasPrefix(line, "| `") {
			name := strings.Split(cells[0], "`")[1]
			if rows[name] != nil {
				t.Errorf("%s has two rows", name)
			}
			rows[name] = cells
		}
	}
	all := config.Describe()
	if len(rows) != len(all) {
		t.Errorf("%d rows, want %d", len(rows), len(all))
	}
	for _, d := range all {
		cells := rows[d.Name]
		switch {
		case len(cells) != 4:
			t.Errorf("%s: %d columns, want 4", d.Name, len(cells))
		case strings.Contains(cells[0], "…_FILE") != d.File:
			t.Errorf("%s: first column %q, file form %v", d.Name, cells[0], d.File)
		case strings.Contains(cells[3], "Not available") == d.Available:
			t.Errorf("%s: meaning %q, available %v", d.Name, cells[3], d.Available)
		case cells[1] == "" || cells[2] == "" || d.Meaning == "":
			t.Errorf("%s: row %q has an empty cell", d.Name, cells)
		case d.Secret && !d.File:
			t.Errorf("%s is a secret without a file form", d.Name)
		}
	}
}

// The names of the contract, sections 1, 2, 3 and 12, and those that it leaves to
// us: the figures of the throttle, what authz remembers and for how long, where it
// reads what a route asks for and records what it decides, how long what it let in may go on, how long the audit log
// is kept and which roles an invitation may give. A setting that is
// added or lost has to be added or lost here too, on purpose.
func TestTheSettingsAreThoseOfTheContract(t *testing.T) {
	want := strings.Fields(`
		PROJECT_NAME LISTEN ENVOY_ADMIN_LISTEN AUTHZ_LISTEN AUTHZ_OPS_LISTEN LOGIN_LISTEN LOGIN_OPS_LISTEN
		INGEST_SERVICE_URL QUERY_SERVICE_URL AUTH_SERVICE_URL
		JWT_SECRET JWT_ALLOW_SHORT_SECRET JWT_ALGORITHM TOKEN_PROFILE USER_CHECK COMPANY_CHECK
		JWT_PUBLIC_KEY JWT_PRIVATE_KEY JWT_KEYS JWT_JWKS_URL JWT_AUDIENCE JWT_ISSUER JWT_LEEWAY
		ACCESS_TOKEN_TTL SESSION_MAX_LIFETIME LEGACY_TOKENS_UNTIL ISSUERS_FILE
		POSTGRES_SERVER POSTGRES_PORT POSTGRES_DB POSTGRES_USER POSTGRES_PASSWORD POSTGRES_SSLMODE DATABASE_URL
		POSTGRES_POOL_MIN POSTGRES_POOL_MAX DEFAULT_COMPANY_ID DEFAULT_COMPANY_NAME COMPANY_JOIN_POLICY
		I_ACCEPT_OPEN_TENANCY REGISTRATION REGISTRATION_CONCEAL
		PASSWORD_SCHEME PASSWORD_UPGRADE BCRYPT_TRUNCATE_72 EDGE_LOGIN_RATE_LIMIT LOGIN_THROTTLE TRUSTED_PROXIES
		FORWARD_AUTHORIZATION TRUST_TRACEPARENT SUPABASE_URL SUPABASE_SERVICE_ROLE_KEY SUPABASE_EMAIL_CONFIRM LOG_LEVEL
		HTTP_CLIENT_TIMEOUT STREAM_IDLE_TIMEOUT STREAM_MAX_DURATION HTTP_CLIENT_MAX_CONNECTIONS HTTP_CLIENT_MAX_KEEPALIVE_CONNECTIONS
		LOGIN_SOURCE_RATE_LIMIT LOGIN_SOURCE_FAILURES LOGIN_WAIT_AFTER LOGIN_WAIT LOGIN_WAIT_MAX LOGIN_WAIT_FORGET LOGIN_PARALLEL
		LOGIN_ACCOUNT_FAILURES LOGIN_FAMILIAR_FOR LOGIN_FAMILIAR_NETWORKS USER_RATE_LIMIT REGISTER_SOURCE_LIMIT REGISTER_LIMIT
		VERCEL_FRONTEND_URL NGROK_URL CORS_ALLOWED_ORIGINS ROUTES ROUTE_SOURCE ENVOY_BIN PG_BIN
		TLS_CERT_FILE TLS_KEY_FILE TLS_REDIRECT_LISTEN AUTHZ_TLS_CERT_FILE AUTHZ_TLS_KEY_FILE AUTHZ_TLS_CLIENT_CA_FILE
		ENVOY_AUTHZ_TLS_CA_FILE ENVOY_AUTHZ_TLS_SERVER_NAME ENVOY_AUTHZ_TLS_CERT_FILE ENVOY_AUTHZ_TLS_KEY_FILE
		ENVOY_MAX_HEAP ENVOY_MAX_CONNECTIONS
		ACTIVITY_CACHE ACTIVITY_CACHE_BYTES PROOF_OF_LIFE TOKEN_CACHE TOKEN_CACHE_BYTES
		AUDIT_RETENTION INVITATION_ROLES REFRESH_TOKEN_TTL
		MAIL MAIL_FROM SMTP_URL RESET_URL RESET_TOKEN_TTL VERIFY_URL VERIFY_TOKEN_TTL MAIL_SOURCE_LIMIT MAIL_ADDRESS_LIMIT
		DECISION_LOG DECISION_LOG_SAMPLE DECISION_LOG_MAX_SIZE DECISION_LOG_MAX_FILES`)
	have := make(map[string]bool)
	for _, d := range config.Describe() {
		have[d.Name] = true
	}
	for _, name := range want {
		if !strings.HasSuffix(name, "_BIN") {
			name = "GATEWAY_" + name
		}
		if !have[name] {
			t.Errorf("%s is missing", name)
		}
		delete(have, name)
	}
	for name := range have {
		t.Errorf("%s is not in the contract", name)
	}
}

func TestInsert(t *testing.T) {
	const begin, end = settingsdoc.Begin + "\n", settingsdoc.End + "\n"
	for _, tc := range []struct{ name, document, want string }{
		{"an old chapter is replaced", "# A\n" + begin + "old\n" + end + "tail\n", "# A\n" + begin + settingsdoc.Markdown() + end + "tail\n"},
		{"an empty chapter is filled", begin + settingsdoc.End, begin + settingsdoc.Markdown() + end},
		{"no markers", "# A\n", ""},
		{"no end", begin + "old\n", ""},
		{"the wrong way round", end + begin, ""},
		{"two beginnings", begin + begin + end, ""},
		{"two ends", begin + end + end, ""},
		{"a marker inside a line", "see " + begin + end, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := settingsdoc.Insert([]byte(tc.document))
			if string(got) != tc.want || (err != nil) != (tc.want == "") {
				t.Errorf("Insert gives %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}
