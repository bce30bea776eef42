// Package routes is the route table: which path leads to which service behind the
// gate, and what a request must prove on its way. It reads a table (YAML, with
// every fault and its line), judges it, and finds the route of a request.
//
// It must never know how a proxy is configured, what a token is, or a setting by
// its name. Envoy's configuration is rendered from a table by package envoy; that
// both take the same route for the same request is tested there, on the real Envoy.
package routes

import (
	"fmt"
	"time"

	"github.com/atenex/gatehouse/internal/strictyaml"
)

// Mode says what a request must prove before it reaches an upstream. The zero
// value is the strictest.
type Mode uint8

const (
	// Strict is a verified user that acts for a company.
	Strict Mode = iota
	// Initial is a verified user, with or without a company.
	Initial
	// None is nobody in particular: the upstream is on its own.
	None
)

//nolint:gochecknoglobals // a constant table
var modeNames = [...]string{Strict: "strict", Initial: "initial", None: "none"}

// String is the word used in tables and in the auth_mode context extension.
// A value that is no mode reads as strict.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return modeNames[Strict]
}

// UnmarshalText accepts the three words and nothing else: a misspelt mode in a
// table is an error at the desk and not a surprise on the wire.
func (m *Mode) UnmarshalText(text []byte) error {
	for mode, name := range modeNames {
		if string(text) == name {
			*m = Mode(mode)
			return nil
		}
	}
	return fmt.Errorf("mode %q: want strict, initial or none", text)
}

// Table is what an operator can change: the services behind the gate and the
// paths that lead to them. A path that no route names is answered 404, a path
// that is named with another method 405.
type Table struct {
	Upstreams map[string]Upstream
	Routes    []Route
	at        strictyaml.Lines
}

// Upstream is one service behind the gate.
type Upstream struct {
	// URL is where the service is, http or https, with an optional base path.
	// It must be empty for the four services that settings place: ingest,
	// query, login and auth.
	URL string
	// Authorization says whether the client's Authorization header is passed on.
	Authorization bool
	// Headers says which others of the client's are passed on.
	Headers Headers
	// HTTP2 speaks HTTP/2 to the service: with prior knowledge over http, by ALPN
	// over https.
	HTTP2 bool
	// GRPCWeb lets browsers reach a gRPC service, which needs HTTP2: what they send
	// as gRPC-Web reaches it as gRPC.
	GRPCWeb bool
	// TLS is for a service at an https URL.
	TLS      TLS
	Timeouts Timeouts
	// ConnectTimeout bounds the connect; zero: that of the settings.
	ConnectTimeout time.Duration
	Connections    Connections
	// Retries is how often a request is tried again that no connection could be
	// had for, 0 to 3. Only GET, HEAD, PUT, DELETE and OPTIONS are, and only
	// while the service has not seen a byte of them.
	Retries uint32
	// Unset is what the routes to this upstream answer when the settings name no URL
	// for it; nil: the URL is required.
	Unset *Answer
	at    strictyaml.Lines
}

// Headers of a request on their way to an upstream. One of the two at most: with
// neither, all pass that the gate does not take away from everybody.
type Headers struct {
	// Forward names those that pass, beside those that the gate itself sets and
	// that HTTP needs.
	Forward []string
	// Drop names those that do not pass.
	Drop []string
}

// TLS is how the certificate of an https upstream is judged. It always is.
type TLS struct {
	// CA is a file of PEM certificates on the machine of Envoy, an absolute path;
	// empty: that of the settings.
	CA string
	// ServerName is asked for and must be in the certificate; empty: the host of
	// the URL.
	ServerName string
}

// Connections bounds what is open to an upstream, per Envoy.
type Connections struct {
	// Max is of connections, with HTTP/2 of requests; zero: that of the settings.
	Max uint32
	// Waiting is of requests that wait for a connection; zero: as many as Max.
	Waiting uint32
}

// Timeouts of an exchange with an upstream. The zero value stands for
// the time-out of the settings between bytes and no limit on the whole.
type Timeouts struct {
	// Idle bounds the wait for the first byte of the answer and every pause in
	// which no byte moves in either direction. It never cuts an upload or a
	// stream that moves.
	Idle time.Duration
	// Total bounds the answer from the end of the request to its last byte. It
	// does cut streams, so it is for services that only give short answers.
	Total time.Duration
}

// Answer is a fixed reply of Envoy itself, sent as {"detail": Detail}.
type Answer struct {
	Status uint32 // 400 to 599
	Detail string
}

// Route leads one path, or one family of paths, to an upstream or to a fixed
// answer. More specific matches win over less specific ones whatever their
// order: exact paths, then templates, then the longest prefix.
type Route struct {
	// Name is the label of this route in metrics and logs.
	Name  string
	Match Match
	// Methods are the methods that exist here; any other one is a 405.
	Methods []string
	Mode    Mode
	// Roles, if any, is the set of which the user must have one.
	Roles    []string
	Upstream string
	// Headers are on top of what the upstream says of them: what passes has to pass
	// both.
	Headers  Headers
	Timeouts Timeouts // a field that is zero is inherited from the upstream
	// RateLimit puts the route under the limit of the settings for logins.
	RateLimit bool
	// Rate is a limit of the route's own, per client address; zero: none.
	Rate Rate
	// MaxBody bounds the request's body, in bytes; zero: not at all.
	MaxBody uint32
	// WebSocket lets GET requests of this route be upgraded.
	WebSocket bool
	// Opens names the guarded routes of which this route, of mode none, takes a
	// part away. Without it such a route is a fault of the table.
	Opens []string
	// Answer is given instead of going to an upstream, whatever the method.
	// Methods, mode and the rest do not apply then.
	Answer *Answer
	at     strictyaml.Lines
}

// maxBodyLimit is the largest MaxBody: a body whose length nobody announced is
// held in memory until it ends.
const maxBodyLimit = 1 << 30
