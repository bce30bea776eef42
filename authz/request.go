package authz

import (
	"errors"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
)

// request is all of a check that a decision depends on. The zero value is a
// request without a token on a strict route.
type request struct {
	authorization values // of every Authorization field
	method        string
	path          string // without the query; empty where it is no text
	id            string // X-Request-ID, printable and bounded
	route         string // a name for metrics, printable and bounded

	mode  string // as the route's configuration spells it
	roles string // likewise; empty: none asked for
	told  bool   // Envoy said something of the route, so that no Router is asked
}

// values are those of a header field of which there may be only one. More than
// two are as wrong as two, and not kept.
type values struct {
	first [2]string
	count int
}

func (v *values) add(value string) {
	if v.count < len(v.first) {
		v.first[v.count] = value
		v.count++
	}
}

func (v *values) all() []string { return v.first[:v.count] }

const (
	headerAuthorization = "authorization"
	headerRequestID     = "x-request-id"

	// The context extensions that a route, or a mesh, speaks to us with.
	extensionMode  = "auth_mode"
	extensionRoute = "route"
	extensionRoles = "roles"
)

// decodeRequest is the ordinary path from bytes to a request. What is no message
// of Envoy's is an error, whose text repeats nothing of it.
func decodeRequest(asked string) (request, error) {
	in := &authv3.CheckRequest{}
	if err := proto.Unmarshal([]byte(asked), in); err != nil {
		return request{}, errors.New("what came is no CheckRequest")
	}
	return readRequest(in), nil
}

// readRequest takes what is needed out of Envoy's message. This is the ordinary
// path: fast_request.go reads most requests, and must read them alike. The path is
// for a Router and for whoever is told of the decision: where the route's own
// configuration says what it asks for, a second reading could only differ from
// Envoy's.
func readRequest(in *authv3.CheckRequest) request {
	attributes := in.GetAttributes()
	extensions := attributes.GetContextExtensions()
	http := attributes.GetRequest().GetHttp()
	r := request{
		method: http.GetMethod(),
		path:   withoutQuery(http.GetPath()),
		route:  printable(extensions[extensionRoute]),
		mode:   extensions[extensionMode],
		roles:  extensions[extensionRoles],
	}
	for _, name := range [...]string{extensionMode, extensionRoute, extensionRoles} {
		if _, given := extensions[name]; given {
			r.told = true
		}
	}
	// Envoy fills headers, or header_map with encode_raw_headers. Both are read,
	// so that neither setting can hide a second Authorization header.
	for name, value := range http.GetHeaders() {
		r.header(name, value)
	}
	for _, h := range http.GetHeaderMap().GetHeaders() {
		value := h.GetValue()
		if raw := h.GetRawValue(); len(raw) > 0 {
			if value != "" && value != string(raw) {
				r.header(h.GetKey(), value)
			}
			value = string(raw)
		}
		r.header(h.GetKey(), value)
	}
	return r
}

func withoutQuery(target string) string {
	path, _, _ := strings.Cut(target, "?")
	return path
}

func (r *request) header(name, value string) {
	switch {
	case strings.EqualFold(name, headerAuthorization):
		r.authorization.add(value)
	case r.id == "" && strings.EqualFold(name, headerRequestID):
		r.id = printable(value)
	}
}

// maxName is how much of a name or id is kept. Envoy cuts request ids at the
// same length.
const maxName = 64

// printable makes text safe to stand in a log line, a label and a protobuf
// string, whatever it was.
func printable(text string) string {
	if len(text) > maxName {
		text = text[:maxName]
	}
	for i := range len(text) {
		if !visible(text[i]) {
			return strings.Map(func(r rune) rune {
				if r < 0x80 && visible(byte(r)) {
					return r
				}
				return '_'
			}, text)
		}
	}
	return text
}

func visible(c byte) bool { return c > ' ' && c < 0x7f }
