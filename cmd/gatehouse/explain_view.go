package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/internal/decisionlog"
	"github.com/atenex/gatehouse/internal/problem"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// explanationView is what `explain` prints, as JSON and, by text, for people.
type explanationView struct {
	ReachesUpstream bool `json:"reaches_upstream"`
	// AnsweredBy is "upstream", "authz" or "envoy".
	AnsweredBy string    `json:"answered_by"`
	Route      placement `json:"route"`
	// Decision is authz' own, as the decision log has it; where Envoy does not ask,
	// it is what authz would say.
	Decision json.RawMessage `json:"decision"`
	// Recorded says of a decision out of a log what these settings make of it.
	Recorded *recordedView `json:"recorded"`
	Steps    []stepView    `json:"steps"`
	// Envoy is what the answer makes Envoy do; null where that is not known, or
	// where Envoy does not ask.
	Envoy *envoyView `json:"envoy"`
	// Upstream is what of the user reaches it; null where nothing does.
	Upstream *upstreamView `json:"upstream"`
	Clients  clientsView   `json:"clients"`
	Notes    []string      `json:"notes"`

	decision *gatehousev1.Decision
}

type stepView struct {
	Name    string  `json:"name"`
	Status  string  `json:"status"` // passed, failed, not_asked or not_reached
	Reason  *string `json:"reason"`
	Checked *string `json:"checked"`
}

type envoyView struct {
	CheckStatus string            `json:"check_status"` // of gRPC, which alone decides
	Metadata    map[string]string `json:"dynamic_metadata"`
}

type upstreamView struct {
	Set     []headerView `json:"headers_set"`
	Removed []string     `json:"headers_removed"`
	// Email says what became of the address, which is not shown.
	Email *string `json:"email"`
	// Longest bounds the exchange, in milliseconds.
	Longest *string `json:"longest_ms"`
}

// recordedView says how a decision of the log stands to these settings.
type recordedView struct {
	// Verdict is "same", "changed", "undecidable" or "not judged".
	Verdict string      `json:"verdict"`
	Why     *string     `json:"why"`
	To      *endingView `json:"to"`
}

type endingView struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
	Status  int    `json:"status"`
}

// streamBound is for Envoy's router, which keeps it to itself.
const streamBound = "x-envoy-upstream-stream-duration-ms"

// newView puts together what authz says and what Envoy makes of it.
func newView(e authz.Explanation, place placement) explanationView {
	v := explanationView{Route: place, decision: e.Decision, Decision: lineOf(e.Decision), Notes: []string{}, Steps: []stepView{}}
	for _, s := range e.Steps {
		v.Steps = append(v.Steps, stepView{s.Name, statusWord(s.Status), orNull(s.Reason), orNull(s.Checked)})
	}
	switch {
	case place.answer != nil:
		v.AnsweredBy, v.Clients = "envoy", answered(*place.answer)
		return v
	case place.open:
		v.ReachesUpstream, v.AnsweredBy = true, "upstream"
		v.Upstream = &upstreamView{Set: []headerView{}, Removed: []string{"x-user-id", "x-company-id", "x-user-email"}}
	default:
		v.effects(e.Effects)
	}
	if v.Upstream != nil && v.Route.Finding == findingRoute && !place.Authorization {
		v.Upstream.Removed = append(v.Upstream.Removed, "authorization")
	}
	return v
}

// effects are those of an answer of authz.
func (v *explanationView) effects(e authz.Effects) {
	v.Envoy = &envoyView{CheckStatus: grpcStatusName(int(e.Code)), Metadata: map[string]string{}}
	for _, m := range e.Metadata {
		v.Envoy.Metadata[m.Name] = m.Value
	}
	if !e.Allowed {
		v.AnsweredBy = "authz"
		headers := make([]headerView, 0, len(e.Set))
		for _, h := range e.Set {
			headers = append(headers, headerView{h.Name, h.Value})
		}
		v.Clients = clients(e.Status, headers, e.Body)
		return
	}
	v.ReachesUpstream, v.AnsweredBy = true, "upstream"
	v.Upstream = &upstreamView{Set: []headerView{}, Removed: append([]string{}, e.Removed...), Email: orNull(e.Email)}
	for _, h := range e.Set {
		if h.Name == streamBound {
			v.Upstream.Longest = orNull(h.Value)
			continue
		}
		v.Upstream.Set = append(v.Upstream.Set, headerView{h.Name, h.Value})
	}
}

// statusWord is a status as one word.
func statusWord(s authz.Status) string {
	return strings.ReplaceAll(string(s), " ", "_")
}

// lineOf is a decision as its log has it, without the end of the line.
func lineOf(d *gatehousev1.Decision) json.RawMessage {
	line, err := decisionlog.AppendLine(nil, d)
	if err != nil {
		return json.RawMessage("null") // of a decision that was just read or made
	}
	return bytes.TrimSpace(line)
}

// outcomeOf is the word of the decision log.
func outcomeOf(d *gatehousev1.Decision) string {
	switch d.GetOutcome() {
	case gatehousev1.Outcome_OUTCOME_ALLOW:
		return "allow"
	case gatehousev1.Outcome_OUTCOME_DENY:
		return "deny"
	case gatehousev1.Outcome_OUTCOME_ERROR, gatehousev1.Outcome_OUTCOME_UNSPECIFIED:
	}
	return "error"
}

// detailOf is the text of a refusal by its reason; those that name what was asked
// for are not known from a record.
func detailOf(reason string) string {
	for _, p := range problem.Decisions() {
		if p.Reason == reason {
			return p.Detail
		}
	}
	return ""
}

// headline says how it ended, in one line.
func (v *explanationView) headline() string {
	switch a := v.Route.answer; {
	case a != nil:
		return fmt.Sprintf("%d BY ENVOY: %s (authz is not asked)", a.Status, a.Detail)
	case v.Route.open:
		return "PASSES UNASKED: the route is open to everybody, and authz is not asked"
	}
	switch d := v.decision; outcomeOf(d) {
	case "allow":
		return "ALLOW"
	case "deny":
		return fmt.Sprintf("DENY %d %s: %s", d.GetStatus(), d.GetReason(), detailOf(d.GetReason()))
	default:
		return fmt.Sprintf("ERROR %d %s: %s", d.GetStatus(), d.GetReason(), detailOf(d.GetReason()))
	}
}
