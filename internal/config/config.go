// Package config is every setting of every binary: where a value comes from,
// which values are refused and why, what may be printed of it and what the
// manual says about it. All of that follows from one table (rows in table.go).
//
// It is imported by cmd alone, and must never know what a setting is used for:
// no listener, key, connection or route is made here. Nothing else in the
// module reads the environment.
package config

import (
	"log/slog"
	"net/netip"
	"net/url"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
)

// Settings is a complete and consistent set of settings. It is made by Load
// alone. Printing it in any way shows it with secrets masked.
type Settings struct {
	ProjectName string
	LogLevel    slog.Level

	Listen    Listen
	Upstreams Upstreams
	Tokens    Tokens
	Checks    Checks
	Database  Database
	Activity  Activity
	Companies Companies
	Passwords Passwords
	Edge      Edge
	TLS       TLS

	Throttle     Throttle
	Registration Registration
	Supabase     Supabase
	DecisionLog  DecisionLog
	Mail         Mail

	// TrustedProxies are the peers whose X-Forwarded-For the login service
	// believes.
	TrustedProxies []netip.Prefix

	// AuditRetention is how long the audit log is kept; zero: for ever.
	AuditRetention time.Duration

	// EnvoyBin and PGBin name programs for `gatehouse up`; empty: look for them.
	EnvoyBin string
	PGBin    string

	given map[string]bool // by name without prefix
	shown []shown
	// environ is a closure because fmt, when a Settings stands in an unexported
	// field of something that is printed, walks past our Format method, but not
	// into a function.
	environ func(amend map[string]string) []string
}

// Listen holds the addresses of contract section 1.
type Listen struct {
	Public     Address // Envoy, for clients
	EnvoyAdmin Address
	Authz      Address // the only one that may be a unix socket
	AuthzOps   Address
	Login      Address
	LoginOps   Address
}

// Upstreams are the services behind the gate: scheme, host and port, never a
// path, a query or user information. nil: not configured.
type Upstreams struct {
	Ingest *url.URL
	Query  *url.URL
	Auth   *url.URL

	// FirstByte bounds the wait for an upstream's first byte and between bytes.
	FirstByte time.Duration
	// StreamIdle cuts a stream or WebSocket on which nothing moves.
	StreamIdle time.Duration
	// StreamMax bounds every exchange of a route that asks for a token; zero: none.
	StreamMax      time.Duration
	MaxConnections uint32 // per upstream
}

// Tokens says how tokens are verified and signed.
type Tokens struct {
	Algorithm string // the JOSE name, as in JWT_ALGORITHM
	// Secret verifies (and, with an HS algorithm, signs). With another algorithm
	// it may stand beside the key pair for HS tokens that are still in use.
	Secret Secret
	// PublicKey is PEM text, empty if not set. PrivateKey is PEM text too.
	PublicKey  string
	PrivateKey Secret
	// Keys is the text of a JWK set, and KeysFile the absolute name of the file
	// that it came from; empty: it came from no file and cannot change.
	Keys     Secret
	KeysFile string
	// JWKSURL is where another issuer publishes its keys; nil: nowhere.
	JWKSURL *url.URL

	Profile  Profile
	Audience string        // empty: not asked for
	Issuer   string        // empty: not asked for
	Leeway   time.Duration // on exp, nbf and iat
	TTL      time.Duration // of tokens that we issue
	// SessionLifetime is the longest time from a login to the end of its session.
	SessionLifetime time.Duration
	// RefreshTTL is how long a refresh token waits to be used; zero: there are none.
	RefreshTTL time.Duration
	// LegacyUntil ends the time of tokens that name no key; zero: no end.
	LegacyUntil time.Time
	// IssuersFile is the absolute name of the file of other issuers; empty: there are
	// none.
	IssuersFile string
}

// Profile names a way of writing claims (contract section 4).
type Profile string

// The token profiles.
const (
	ProfileNative   Profile = "native"
	ProfileSupabase Profile = "supabase"
)

// Check is a look-up in the store that a decision waits for. Anything but
// CheckOff, the zero value included, means that it is required.
type Check string

// The two states of a check.
const (
	CheckRequired Check = "required"
	CheckOff      Check = "off"
)

// Checks says what authz asks the store.
type Checks struct {
	User    Check
	Company Check // off whenever User is off
}

// NeedStore reports whether authz needs a database at all.
func (c Checks) NeedStore() bool { return c.User != CheckOff || c.Company != CheckOff }

// Database says how to reach PostgreSQL.
type Database struct {
	// URL is DATABASE_URL, or what the POSTGRES_ settings amount to.
	URL     Secret
	PoolMin int32
	PoolMax int32

	server   string
	port     uint16
	name     string
	user     string
	password Secret
	sslMode  string
}

// Activity says what authz remembers of users and tokens, and for how long it may.
type Activity struct {
	Cache bool
	Bytes uint32
	// TokenCache and TokenBytes are of verified tokens.
	TokenCache bool
	TokenBytes uint32
	// ProofOfLife is how long memory is trusted after the last proof that changes
	// in the database are heard.
	ProofOfLife time.Duration
}

// Companies says how users come to a company.
type Companies struct {
	Default identity.CompanyID // zero: none
	// DefaultName is for registration, where Default is not set; empty: none.
	DefaultName string
	// JoinAny lets a user into any company that it names (COMPANY_JOIN_POLICY).
	JoinAny bool
	// InvitationRoles are those that a company's admin may give.
	InvitationRoles []string
}

// Throttle is how often what may be tried. What is zero has no limit.
type Throttle struct {
	Off            bool // none of the limits holds
	Login          identity.LoginLimits
	User           identity.Quota
	RegisterSource [2]identity.Quota
	Register       identity.Quota
}

// Where those who register become users.
const (
	RegistrationOff      = "off"
	RegistrationPostgres = "postgres"
	RegistrationSupabase = "supabase"
)

// Registration says whether strangers may register.
type Registration struct {
	At      string // RegistrationOff, RegistrationPostgres or RegistrationSupabase
	Conceal bool   // a taken address is answered like a new one
}

// Supabase is the project where users are made with RegistrationSupabase.
type Supabase struct {
	URL            *url.URL // nil: none
	ServiceRoleKey Secret
	EmailConfirm   bool // new users count as confirmed
}

// The schemes of new password hashes.
const (
	SchemeArgon2id = "argon2id"
	SchemeBcrypt   = "bcrypt"
)

// Passwords says how hashes are made and kept.
type Passwords struct {
	Scheme           string // SchemeArgon2id or SchemeBcrypt
	Upgrade          bool
	BcryptTruncate72 bool
}

// The route tables that ship.
const (
	RoutesPrefix   = "prefix"
	RoutesExplicit = "explicit"
)

// Edge is what Envoy does by itself.
type Edge struct {
	Routes         string // RoutesPrefix, RoutesExplicit or the absolute name of a file
	RouteSource    string // RouteSourceExtensions or RouteSourcePath
	LoginRateLimit RateLimit
	// ForwardAuthorization lets the token through to ingest and query.
	ForwardAuthorization bool
	Bounds               Bounds
	// TrustTraceparent has Envoy take part in its clients' traces.
	TrustTraceparent bool
	// Origins, VercelFrontend and Ngrok are origins as a browser sends them:
	// lower case, no default port, no trailing slash. Empty: none.
	Origins        []string
	VercelFrontend string // its previews are allowed too
	Ngrok          string
}

// IsSet reports whether the setting was given, in either form and from either
// place, as opposed to defaulted or empty. The name goes without prefix
// ("AUTHZ_LISTEN", "ENVOY_BIN"); one that is no setting is a mistake in the
// program and panics.
func (s *Settings) IsSet(name string) bool {
	given, known := s.given[name]
	if !known {
		panic("config: IsSet of " + name + ", which is no setting")
	}
	return given
}

// Environ is the environment for a child process: all that this process got,
// the settings from .env, and the amendments, which are keyed by full name
// ("GATEWAY_LISTEN") and win. Amending a setting drops its _FILE form. Give it
// to our own binaries only: it holds every secret.
//
// Load(Source{Environ: s.Environ(amend)}, need) is how `up` judges the result.
func (s *Settings) Environ(amend map[string]string) []string { return s.environ(amend) }
