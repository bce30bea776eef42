package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// columns is the narrowest terminal that is written for.
const columns = 80

// sheet is text for a terminal: prose is wrapped, headers and bodies are left as
// they are, to be copied.
type sheet struct{ strings.Builder }

func (s *sheet) section(title string) { fmt.Fprintf(s, "\n%s\n", title) }

// entry is a label in a column and prose beside it.
func (s *sheet) entry(label string, width int, text string) {
	label = fmt.Sprintf("%-*s", width, label)
	room := columns - utf8.RuneCountInString(label)
	for i, line := range wrapped(printable(text), room) {
		if i > 0 {
			label = strings.Repeat(" ", width)
		}
		fmt.Fprintln(s, strings.TrimRight(label+line, " "))
	}
}

// wrapped breaks text at spaces; a word that is too long stays whole.
func wrapped(text string, room int) []string {
	var lines []string
	line := ""
	for word := range strings.SplitSeq(text, " ") {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= room:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}

func (v *explanationView) text() []byte {
	s := &sheet{}
	s.entry("", 0, v.headline())
	fmt.Fprintln(s)
	v.request(s)
	v.again(s)
	v.walk(s)
	v.envoy(s)
	v.upstream(s)
	v.clients(s)
	for _, note := range v.Notes {
		fmt.Fprintln(s)
		s.entry("note: ", 6, note)
	}
	return []byte(s.String())
}

const labels = 11 // the width of the first column

func (v *explanationView) request(s *sheet) {
	d := v.decision
	s.entry("request", labels, orDash(d.GetMethod())+" "+orDash(d.GetPath()))
	if id := d.GetRequestId(); id != "" {
		s.entry("id", labels, id)
	}
	s.entry("time", labels, d.GetTime().AsTime().UTC().Format("2006-01-02T15:04:05.000Z"))
	s.entry("route", labels, v.route())
	if d.GetUserId() != "" {
		s.entry("user", labels, d.GetUserId())
	}
	if d.GetCompanyId() != "" {
		s.entry("company", labels, d.GetCompanyId())
	}
	if v.Recorded != nil {
		if d.GetInstance() != "" {
			s.entry("replica", labels, d.GetInstance())
		}
		if d.GetTraceId() != "" {
			s.entry("trace", labels, d.GetTraceId())
		}
	}
	if d.GetMethod() == "OPTIONS" && v.Route.answer == nil {
		s.entry("", labels, "A preflight (with Origin and Access-Control-Request-Method) never reaches authz: Envoy answers it. This is any other OPTIONS.")
	}
}

func (v *explanationView) route() string {
	d := v.decision
	roles := ""
	if len(d.GetRoles()) > 0 {
		roles = ", for " + strings.Join(d.GetRoles(), " or ")
	}
	switch v.Route.Finding {
	case findingNoRoute:
		return "none: the table does not name the path"
	case findingOtherMethod:
		return "none: the table names the path, for other methods"
	case findingAmbiguous:
		return "none for sure: the path can be read in two ways. Envoy normalises it, or refuses it, before it looks for a route; ask again with the path that it makes of it"
	case findingTold:
		return d.GetMode() + roles + ", as --mode and --roles say"
	case findingRecorded:
		return orDash(d.GetRoute()) + ": " + d.GetMode() + roles
	}
	to := ""
	if v.Route.Upstream != nil {
		to = ", to " + *v.Route.Upstream
	}
	return *v.Route.Name + ": " + d.GetMode() + roles + to
}

// again is what these settings make of a recorded decision.
func (v *explanationView) again(s *sheet) {
	r := v.Recorded
	if r == nil {
		return
	}
	switch r.Verdict {
	case "same":
		s.entry("now", labels, "the same by these settings")
	case "changed":
		s.entry("now", labels, fmt.Sprintf("by these settings it would be: %s", ending(*r.To)))
	default:
		s.entry("now", labels, r.Verdict+" by these settings: "+*r.Why)
	}
	if r.Verdict != "same" {
		s.section("what was recorded")
		facts(s, v.decision)
	}
}

func ending(e endingView) string {
	if e.Outcome == "allow" {
		return "allow"
	}
	return fmt.Sprintf("%s %d %s", e.Outcome, e.Status, e.Reason)
}

// facts are what a decision went by, as far as its record says.
func facts(s *sheet, d *gatehousev1.Decision) {
	if d.GetCause() != "" {
		s.entry("  cause", labels+2, d.GetCause())
	}
	if t := d.GetToken(); t != nil {
		s.entry("  token", labels+2, tokenFacts(t))
	}
	if u := d.GetStanding(); u != nil {
		s.entry("  user", labels+2, standingFacts(u))
	}
}

func tokenFacts(t *gatehousev1.Token) string {
	if t.GetMalformed() != "" {
		return "malformed: " + t.GetMalformed()
	}
	parts := []string{"alg " + orDash(t.GetAlgorithm()), "kid " + orDash(t.GetKeyId()), "signature not found good"}
	if t.GetVerified() {
		parts[2] = "signature good"
	}
	if t.Subject != nil {
		parts = append(parts, "sub "+t.GetSubject())
	}
	if t.GetCompanyId() != "" {
		parts = append(parts, "company "+t.GetCompanyId())
	}
	if t.GetIssuer() != "" {
		parts = append(parts, "iss "+t.GetIssuer())
	}
	if t.GetHasAudience() {
		parts = append(parts, "aud "+strings.Join(t.GetAudience(), " "))
	}
	if at := t.GetIssuedAt(); at != nil {
		parts = append(parts, "iat "+stamp(at.AsTime()))
	}
	if at := t.GetExpiresAt(); at != nil {
		parts = append(parts, "exp "+stamp(at.AsTime()))
	}
	if t.SessionId != nil {
		parts = append(parts, "session "+t.GetSessionId())
	}
	return strings.Join(parts, ", ")
}

func standingFacts(u *gatehousev1.Standing) string {
	if !u.GetExists() {
		return "there was none, said " + u.GetSource()
	}
	parts := []string{"active", "said " + u.GetSource()}
	if !u.GetActive() {
		parts[0] = "not active"
	}
	for _, m := range u.GetMemberships() {
		parts = append(parts, fmt.Sprintf("in %s (%s)", m.GetCompanyId(), orDash(m.GetRole())))
	}
	if u.GetSuspended() {
		parts = append(parts, "the token's company suspended")
	}
	if session := u.GetSession(); session != nil {
		switch {
		case !session.GetExists():
			parts = append(parts, "no such session")
		case session.GetEnded():
			parts = append(parts, "session ended")
		default:
			parts = append(parts, "session open")
		}
	}
	if at := u.GetTokensValidAfter(); at != nil {
		parts = append(parts, "tokens valid after "+stamp(at.AsTime()))
	}
	return strings.Join(parts, ", ")
}

// walk shows the steps; those that were not reached in one line.
func (v *explanationView) walk(s *sheet) {
	if len(v.Steps) == 0 || v.Route.open {
		return // an open route asks for none of them
	}
	switch {
	case !v.Route.AsksAuthz && v.Recorded == nil:
		s.section("what authz would say if it were asked")
	case v.Recorded != nil && v.Recorded.Verdict == "changed":
		s.section("steps by these settings")
	default:
		s.section("steps")
	}
	const width = 24
	var left []string
	for _, step := range v.Steps {
		var mark string
		switch step.Status {
		case "passed":
			mark = "ok"
		case "failed":
			mark = "FAIL"
		case "not_asked":
			mark = "-"
		default:
			left = append(left, step.Name)
			continue
		}
		s.entry(fmt.Sprintf("  %-5s %-15s ", mark, step.Name), width, *step.Checked)
	}
	if len(left) > 0 {
		s.entry("        not reached", width, strings.Join(left, ", "))
	}
}

func (v *explanationView) envoy(s *sheet) {
	if v.Envoy == nil {
		return
	}
	s.section("Envoy")
	s.entry("  gets", labels+2, "a CheckResponse with status "+v.Envoy.CheckStatus)
	var words []string
	for _, name := range []string{"outcome", "reason", "user_id", "company_id"} {
		if value := v.Envoy.Metadata[name]; value != "" {
			words = append(words, name+"="+value)
		}
	}
	s.entry("  metadata", labels+2, strings.Join(words, " "))
	if v.ReachesUpstream {
		s.entry("  RBAC", labels+2, "finds outcome=allow, and lets the request go on")
	} else {
		s.entry("  answers", labels+2, "at once; nothing reaches an upstream")
	}
}

func (v *explanationView) upstream(s *sheet) {
	u := v.Upstream
	if u == nil {
		return
	}
	s.section("the upstream receives, of the user")
	for _, h := range u.Set {
		fmt.Fprintf(s, "  %s: %s\n", h.Name, printable(h.Value))
	}
	if len(u.Set) == 0 {
		fmt.Fprintln(s, "  nothing")
	}
	if u.Email != nil {
		switch *u.Email {
		case "none":
			s.entry("", 2, "no email: the user has none")
		case "not sendable":
			s.entry("", 2, "no email: it cannot stand in a header")
		case "not recorded":
			s.entry("", 2, "the email, if there is one: it was not recorded")
		}
	}
	if len(u.Removed) > 0 {
		s.entry("  removed:", labels+2, strings.Join(u.Removed, ", "))
	}
	s.entry("", 2, "Whatever the client sent as x-user-id, x-company-id or x-user-email is gone.")
	if u.Longest != nil {
		s.entry("", 2, "Envoy ends the exchange after "+*u.Longest+" ms at the latest.")
	}
	s.section("the client sees")
	s.entry("", 2, "what the upstream answers, whether over HTTP, gRPC or grpc-web")
}

func (v *explanationView) clients(s *sheet) {
	c := v.Clients
	if c.HTTP == nil {
		return
	}
	s.section("the client sees")
	reply(s, "HTTP", c.HTTP)
	reply(s, "gRPC", c.GRPC)
	s.entry("  grpc-web", labels+2, "as HTTP: this Envoy does not translate it")
	s.entry("", 2, "Each with x-request-id and x-process-time, and the CORS headers for an allowed origin.")
}

func reply(s *sheet, kind string, r *replyView) {
	label := fmt.Sprintf("  %-*s", labels, kind)
	fmt.Fprintf(s, "%s%d\n", label, r.Status)
	indent := strings.Repeat(" ", labels+2)
	for _, h := range r.Headers {
		name := ""
		if h.Name == grpcStatusHeader {
			code, _ := strconv.Atoi(h.Value) // we wrote it
			name = " (" + grpcStatusName(code) + ")"
		}
		fmt.Fprintf(s, "%s%s: %s%s\n", indent, h.Name, printable(h.Value), name)
	}
	if r.Body != "" {
		fmt.Fprintf(s, "%s%s\n", indent, printable(r.Body))
	}
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
