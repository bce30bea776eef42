package routes

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// The upstreams whose place is a setting.
const (
	UpstreamIngest = "ingest"
	UpstreamQuery  = "query"
	UpstreamLogin  = "login"
	UpstreamAuth   = "auth"
)

// What an upstream cannot be called, because the gate itself calls something so:
// where authz is asked, and where nothing is.
const (
	ReservedAuthz   = "authz"
	ReservedNowhere = "nowhere"
)

func placedBySettings(upstream string) bool {
	switch upstream {
	case UpstreamIngest, UpstreamQuery, UpstreamLogin, UpstreamAuth:
		return true
	}
	return false
}

// methods are those that a table may name. CONNECT and TRACE are left out: the one turns
// the gate into a tunnel, the other shows a client what was added behind it.
//
//nolint:gochecknoglobals // a constant table
var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// Methods are those that a table may name, in the order in which people list them.
func Methods() []string { return slices.Clone(methods) }

var (
	nameRegexp = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	// A role travels in a comma-separated list.
	roleRegexp = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)
)

// The names of answers that the gate gives whatever the table says.
const (
	AnswerConnect    = "connect"
	AnswerDotSegment = "dot-segment"
	AnswerTwoHosts   = "two-hosts"
	AnswerNotFound   = "not-found"
	AnswerPreflight  = "preflight"
)

//nolint:gochecknoglobals // a constant table
var ownRoutes = []string{AnswerConnect, AnswerDotSegment, AnswerNotFound, AnswerPreflight, AnswerTwoHosts}

// maxRetries keeps a service that is down from being asked many times for one
// request.
const maxRetries = 3

// Validate reports every fault of the table at once, as Faults.
func (t Table) Validate() error { return t.faults().Err() }

func (t Table) faults() Faults {
	var faults Faults
	used := map[string]bool{}
	for _, r := range t.Routes {
		used[r.Upstream] = true
	}
	for _, name := range slices.Sorted(maps.Keys(t.Upstreams)) {
		faults = append(faults, t.Upstreams[name].judged(name, used[name])...)
	}
	if len(t.Routes) == 0 {
		faults = append(faults, Fault{Line: t.at.Of("routes"), Text: "no routes"})
	}
	seen := map[string]Route{}
	for i, r := range t.Routes {
		j := &judge{in: fmt.Sprintf("route %q", r.Name), at: r.at}
		if r.Name == "" {
			j.in = fmt.Sprintf("route #%d", i+1)
		}
		t.judgeRoute(j, r)
		if first, twice := seen[r.Name]; twice {
			j.fault("name", "the name is used twice%s", sayLine(", first in line ", first))
		} else {
			seen[r.Name] = r
		}
		faults = append(faults, j.faults...)
	}
	return append(faults, t.conflicts()...)
}

func (u Upstream) judged(name string, used bool) Faults {
	j := &judge{in: fmt.Sprintf("upstream %q", name), at: u.at}
	if !nameRegexp.MatchString(name) || name == ReservedAuthz || name == ReservedNowhere {
		j.fault("", "the name must be lower-case letters, digits and hyphens, and neither authz nor nowhere")
	}
	switch {
	case placedBySettings(name) && u.URL != "":
		j.fault("url", "its url is a setting and cannot be given in the table")
	case !placedBySettings(name) && u.URL == "":
		j.fault("", "url is missing")
	case u.URL != "":
		target, err := ParseURL(u.URL)
		j.check("url", err)
		if err == nil && !target.TLS && u.TLS != (TLS{}) {
			j.fault("tls", "tls is for an https url")
		}
	}
	// The four of the settings are in most tables by habit.
	if !used && !placedBySettings(name) {
		j.fault("", "no route leads to it")
	}
	if u.Unset != nil {
		if name != UpstreamAuth {
			j.fault("unset", "unset applies to auth alone, the one service that may be absent")
		}
		j.check("unset", u.Unset.validate())
	}
	j.check("timeouts", u.Timeouts.validate())
	if u.ConnectTimeout < 0 {
		j.fault("timeouts", "a time-out must not be negative")
	}
	if u.Retries > maxRetries {
		j.fault("retries", "retries %d: want 0 to %d", u.Retries, maxRetries)
	}
	const most = 1_000_000
	if u.Connections.Max > most || u.Connections.Waiting > most {
		j.fault("connections", "connections: want at most %d", most)
	}
	if ca := u.TLS.CA; ca != "" && (!path.IsAbs(ca) || path.Clean(ca) != ca) {
		j.fault("tls", "tls.ca %q: want an absolute path, on the machine of Envoy", ca)
	}
	if s := u.TLS.ServerName; s != "" && !serverName.MatchString(s) {
		j.fault("tls", "tls.server_name %q: want a host name", s)
	}
	if u.GRPCWeb && !u.HTTP2 {
		j.fault("grpc_web", "grpc_web is for a service that speaks gRPC, which needs http2: true")
	}
	u.Headers.judge(j)
	return j.faults
}

var serverName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

func (t Timeouts) validate() error {
	if t.Idle < 0 || t.Total < 0 {
		return errors.New("a time-out must not be negative")
	}
	return nil
}

func (a Answer) validate() error {
	if a.Status < 400 || a.Status > 599 {
		return fmt.Errorf("answer status %d: want 400 to 599", a.Status)
	}
	if strings.TrimSpace(a.Detail) == "" {
		return errors.New("answer detail is missing")
	}
	return nil
}

func (t Table) judgeRoute(j *judge, r Route) {
	if !nameRegexp.MatchString(r.Name) {
		j.fault("name", "the name must be lower-case letters, digits and hyphens, at most 63")
	}
	if slices.Contains(ownRoutes, r.Name) {
		j.fault("name", "the name is one that the gate uses itself: %s", strings.Join(ownRoutes, ", "))
	}
	j.check(r.Match.key(), r.Match.validate())
	if r.Answer != nil {
		j.check("answer", r.Answer.validate())
		if r.Upstream != "" || len(r.Methods) > 0 || len(r.Roles) > 0 || r.RateLimit || !r.Rate.Off() || r.WebSocket ||
			r.Mode != Strict || r.Timeouts != (Timeouts{}) || r.MaxBody != 0 || len(r.Opens) > 0 || !r.Headers.all() {
			j.fault("answer", "a route with an answer takes nothing else")
		}
		return
	}

	upstream, ok := t.Upstreams[r.Upstream]
	switch {
	case !ok:
		j.fault("upstream", "upstream %q is not in the table", r.Upstream)
	case upstream.HTTP2 && r.WebSocket:
		j.fault("websocket", "a websocket needs HTTP/1.1, and upstream %q is http2", r.Upstream)
	}
	if len(r.Methods) == 0 {
		j.fault("methods", "methods are missing")
	}
	for i, m := range r.Methods {
		if !slices.Contains(methods, m) {
			j.fault("methods", "method %q: want one of %s", m, strings.Join(methods, " "))
		}
		if slices.Contains(r.Methods[:i], m) {
			j.fault("methods", "method %s is listed twice", m)
		}
	}
	if r.Mode > None {
		j.fault("mode", "the mode is none of strict, initial and none")
	}
	for i, role := range r.Roles {
		if !roleRegexp.MatchString(role) {
			j.fault("roles", "role %q: want letters, digits and _ . : -", role)
		}
		if slices.Contains(r.Roles[:i], role) {
			j.fault("roles", "role %q is listed twice", role)
		}
	}
	if r.at.Has("roles") && len(r.Roles) == 0 {
		// Is it nobody, or everybody? Whoever wrote it meant one of them.
		j.fault("roles", "roles are empty: leave the key out where none is needed")
	}
	if len(r.Roles) > 0 && r.Mode == None {
		j.fault("roles", "roles are never checked under mode none")
	}
	if r.WebSocket && !slices.Contains(r.Methods, "GET") {
		j.fault("websocket", "a websocket needs GET among the methods")
	}
	if r.RateLimit && !r.Rate.Off() {
		j.fault("rate_limit", "want the limit of the settings or one of its own")
	}
	j.check("rate_limit", r.Rate.Validate())
	r.Headers.judge(j)
	j.check("timeouts", r.Timeouts.validate())
	if r.MaxBody > maxBodyLimit {
		j.fault("max_body", "max_body %d: want at most 1 GiB", r.MaxBody)
	}
	if len(r.Opens) > 0 && r.Mode != None {
		j.fault("opens", "only a route of mode none opens a part of another")
	}
	for _, name := range r.Opens {
		if !slices.ContainsFunc(t.Routes, func(o Route) bool { return o.Name == name && r.shadows(o) }) {
			j.fault("opens", "it opens no part of a route %q", name)
		}
	}
}

// conflicts finds pairs of routes of which it is not plain to a reader which
// one a request meets.
func (t Table) conflicts() Faults {
	var faults Faults
	for i, a := range t.Routes {
		for _, b := range t.Routes[i+1:] {
			if a.Match.overlaps(b.Match) && sharesMethod(a, b) {
				faults = append(faults, Fault{
					Line: b.at.Of(b.Match.key()),
					In:   fmt.Sprintf("routes %q and %q", a.Name, b.Name),
					Text: fmt.Sprintf("both take %s%s", b.Match, sayLine(", the first in line ", a)),
				})
			}
			for _, pair := range [][2]Route{{a, b}, {b, a}} {
				open, guarded := pair[0], pair[1]
				if open.shadows(guarded) && !slices.Contains(open.Opens, guarded.Name) {
					faults = append(faults, Fault{
						Line: open.at.Of(open.Match.key()),
						In:   fmt.Sprintf("route %q", open.Name),
						Text: fmt.Sprintf("mode none opens a part of route %q (%s%s); if it is meant to, say opens: [%s]",
							guarded.Name, guarded.Mode, sayLine(", line ", guarded), guarded.Name),
					})
				}
			}
		}
	}
	return faults
}

func sayLine(before string, r Route) string {
	if r.at.Self == 0 {
		return ""
	}
	return fmt.Sprintf("%s%d", before, r.at.Self)
}

// shadows reports whether r is an open route inside a guarded one: what a reader
// takes for protected would be reached by anybody.
func (r Route) shadows(guarded Route) bool {
	if r.Answer != nil || guarded.Answer != nil || r.Mode != None || guarded.Mode == None {
		return false
	}
	return r.Match != guarded.Match && r.Match.under(guarded.Match)
}

func sharesMethod(a, b Route) bool {
	if a.Answer != nil || b.Answer != nil {
		return true // an answer takes every method
	}
	return slices.ContainsFunc(a.Methods, func(m string) bool { return slices.Contains(b.Methods, m) })
}
