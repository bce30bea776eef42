package routes

import (
	"regexp"
	"slices"
	"strings"
)

// keptHeaders reach every upstream whatever its table says: those that the gate
// sets, those without which HTTP does not work, and those of gRPC.
//
//nolint:gochecknoglobals // a constant table
var keptHeaders = []string{
	"x-user-id", "x-company-id", "x-user-email",
	"x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host",
	"traceparent", "tracestate",
	"host", "connection", "upgrade", "te", "expect",
	"content-length", "content-type", "content-encoding", "transfer-encoding",
	"sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-key", "sec-websocket-protocol", "sec-websocket-version",
	"grpc-accept-encoding", "grpc-encoding", "grpc-timeout",
}

// KeptHeaders are those that a table can neither name nor take away.
func KeptHeaders() []string { return slices.Clone(keptHeaders) }

// untrustedHeaders say things about a request that only the gate may say, or
// make an upstream see another method or path than the one that was authorised.
//
//nolint:gochecknoglobals // a constant table
var untrustedHeaders = []string{
	"forwarded",
	"keep-alive",
	"proxy",
	"proxy-authenticate",
	"proxy-authorization",
	"proxy-connection",
	"trailer",
	"trailers",
	"x-forwarded-host",
	"x-forwarded-port",
	"x-forwarded-prefix",
	"x-forwarded-uri",
	"x-http-method",
	"x-http-method-override",
	"x-method-override",
	"x-original-method",
	"x-original-url",
	"x-real-ip",
	"x-rewrite-url",
}

// UntrustedHeaders are those that are taken from every request.
func UntrustedHeaders() []string { return slices.Clone(untrustedHeaders) }

// Lower case, as HTTP/2 has them and as Envoy compares them.
var headerRegexp = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// maxHeaderNames bounds the expression that Envoy is given for Headers.Forward.
const maxHeaderNames = 32

// all reports that nothing is said, so that all pass.
func (h Headers) all() bool { return len(h.Forward) == 0 && len(h.Drop) == 0 }

func (h Headers) judge(j *judge) {
	if len(h.Forward) > 0 && len(h.Drop) > 0 {
		j.fault("headers", "headers: want forward or drop, not both")
	}
	for key, names := range map[string][]string{"forward": h.Forward, "drop": h.Drop} {
		if len(names) > maxHeaderNames {
			j.fault("headers", "headers.%s: want at most %d names", key, maxHeaderNames)
		}
		for i, name := range names {
			switch {
			case !headerRegexp.MatchString(name):
				j.fault("headers", "headers.%s %q: want a name in lower-case letters, digits and hyphens", key, name)
			case name == "authorization":
				j.fault("headers", "headers.%s: authorization has a key of its own", key)
			case slices.Contains(keptHeaders, name) || strings.HasPrefix(name, "x-envoy-"):
				j.fault("headers", "headers.%s %q: the gate sets it itself", key, name)
			case slices.Contains(untrustedHeaders, name):
				j.fault("headers", "headers.%s %q: the gate takes it away from every request", key, name)
			case slices.Contains(names[:i], name):
				j.fault("headers", "headers.%s %q is listed twice", key, name)
			}
		}
	}
}
