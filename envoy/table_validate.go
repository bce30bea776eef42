package envoy

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// The upstreams that Settings place and the cluster names that the renderer
// keeps for itself.
const (
	upstreamIngest = "ingest"
	upstreamQuery  = "query"
	upstreamLogin  = "login"
	upstreamAuth   = "auth"

	clusterAuthz   = "authz"
	clusterNowhere = "nowhere"
)

func placedBySettings(upstream string) bool {
	switch upstream {
	case upstreamIngest, upstreamQuery, upstreamLogin, upstreamAuth:
		return true
	}
	return false
}

// tableMethods are those that a table may name. CONNECT and TRACE are left out: the one turns
// the gate into a tunnel, the other shows a client what was added behind it.
//
//nolint:gochecknoglobals // a constant table
var tableMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

var (
	nameRegexp = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	// A role travels in a comma-separated list.
	roleRegexp = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)
)

// Validate reports every fault of the table at once.
func (t Table) Validate() error {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(t.Upstreams)) {
		if err := t.Upstreams[name].validate(name); err != nil {
			faults = append(faults, fmt.Errorf("upstream %q: %w", name, err))
		}
	}
	if len(t.Routes) == 0 {
		faults = append(faults, errors.New("no routes"))
	}
	seen := map[string]bool{}
	for i, r := range t.Routes {
		label := r.Name
		if label == "" {
			label = fmt.Sprintf("#%d", i+1)
		}
		if err := t.validateRoute(r); err != nil {
			faults = append(faults, fmt.Errorf("route %q: %w", label, err))
		}
		if seen[r.Name] {
			faults = append(faults, fmt.Errorf("route %q: the name is used twice", label))
		}
		seen[r.Name] = true
	}
	faults = append(faults, t.conflicts()...)
	return errors.Join(faults...)
}

func (u Upstream) validate(name string) error {
	var faults []error
	if !nameRegexp.MatchString(name) || name == clusterAuthz || name == clusterNowhere {
		faults = append(faults, errors.New("the name must be lower-case letters, digits and hyphens, and neither authz nor nowhere"))
	}
	switch {
	case placedBySettings(name) && u.URL != "":
		faults = append(faults, errors.New("its url is a setting and cannot be given in the table"))
	case !placedBySettings(name) && u.URL == "":
		faults = append(faults, errors.New("url is missing"))
	case u.URL != "":
		if _, err := parseUpstreamURL(u.URL); err != nil {
			faults = append(faults, err)
		}
	}
	if u.Unset != nil {
		if name != upstreamAuth {
			faults = append(faults, errors.New("unset applies to auth alone, the one service that may be absent"))
		}
		faults = append(faults, u.Unset.validate())
	}
	faults = append(faults, u.Timeouts.validate())
	return errors.Join(faults...)
}

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

func (t Table) validateRoute(r Route) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if !nameRegexp.MatchString(r.Name) {
		fault("the name must be lower-case letters, digits and hyphens, at most 63")
	}
	if err := r.Match.validate(); err != nil {
		faults = append(faults, err)
	}
	if r.Answer != nil {
		if err := r.Answer.validate(); err != nil {
			faults = append(faults, err)
		}
		if r.Upstream != "" || len(r.Methods) > 0 || len(r.Roles) > 0 || r.RateLimit || r.WebSocket ||
			r.Mode != Strict || r.Timeouts != (Timeouts{}) {
			fault("a route with an answer takes nothing else")
		}
		return errors.Join(faults...)
	}

	if _, ok := t.Upstreams[r.Upstream]; !ok {
		fault("upstream %q is not in the table", r.Upstream)
	}
	if len(r.Methods) == 0 {
		fault("methods are missing")
	}
	for i, m := range r.Methods {
		if !slices.Contains(tableMethods, m) {
			fault("method %q: want one of %s", m, strings.Join(tableMethods, " "))
		}
		if slices.Contains(r.Methods[:i], m) {
			fault("method %s is listed twice", m)
		}
	}
	if r.Mode > None {
		fault("the mode is none of strict, initial and none")
	}
	for _, role := range r.Roles {
		if !roleRegexp.MatchString(role) {
			fault("role %q: want letters, digits and _ . : -", role)
		}
	}
	if len(r.Roles) > 0 && r.Mode == None {
		fault("roles are never checked under mode none")
	}
	if r.WebSocket && !slices.Contains(r.Methods, "GET") {
		fault("a websocket needs GET among the methods")
	}
	faults = append(faults, r.Timeouts.validate())
	return errors.Join(faults...)
}

// conflicts finds pairs of routes of which it is not plain to a reader which
// one a request meets.
func (t Table) conflicts() []error {
	var faults []error
	for i, a := range t.Routes {
		for _, b := range t.Routes[i+1:] {
			if a.Match.overlaps(b.Match) && sharesMethod(a, b) {
				faults = append(faults, fmt.Errorf("routes %q and %q both take %s", a.Name, b.Name, b.Match))
			}
			faults = append(faults, shadows(a, b), shadows(b, a))
		}
	}
	return faults
}

// shadows is the fault of an open route inside a guarded one: what a reader
// takes for protected would be reached by anybody. A service with an open
// corner names its guarded paths one by one.
func shadows(open, guarded Route) error {
	if open.Answer != nil || guarded.Answer != nil || open.Mode != None || guarded.Mode == None {
		return nil
	}
	if open.Match == guarded.Match || !open.Match.under(guarded.Match) {
		return nil
	}
	return fmt.Errorf("route %q (none) opens a part of route %q (%s)", open.Name, guarded.Name, guarded.Mode)
}

func sharesMethod(a, b Route) bool {
	if a.Answer != nil || b.Answer != nil {
		return true // an answer takes every method
	}
	return slices.ContainsFunc(a.Methods, func(m string) bool { return slices.Contains(b.Methods, m) })
}
