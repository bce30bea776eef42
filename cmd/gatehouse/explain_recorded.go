package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/cmd/internal/authzd"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/problem"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// explainRecorded tells one decision of a log.
func (in *invocation) explainRecorded(ctx context.Context, f explainFlags) (explanationView, error) {
	j := in.newJudge()
	name := f.decision
	if name == "" {
		var err error
		if name, err = in.defaultLog(j.settings); err != nil {
			return explanationView{}, err
		}
	}
	log, err := in.openLog(name)
	if err != nil {
		return explanationView{}, err
	}
	defer func() { _ = log.Close() }()
	var found *gatehousev1.Decision
	count, matches := 0, 0
	damaged, err := eachDecision(ctx, log, func(_ int, d *gatehousev1.Decision) error {
		count++
		if f.requestID != "" && d.GetRequestId() != f.requestID || f.nth > 0 && count != f.nth {
			return nil
		}
		found = d
		matches++
		return nil
	})
	if err != nil {
		return explanationView{}, err
	}
	if damaged > 0 {
		in.complain(fmt.Sprintf("warning: %d lines are damaged and were passed over", damaged))
	}
	switch {
	case found == nil && count == 0:
		return explanationView{}, fmt.Errorf("there is no decision in it")
	case found == nil && f.nth > 0:
		return explanationView{}, fmt.Errorf("there are only %d decisions in it", count)
	case found == nil:
		return explanationView{}, fmt.Errorf("none of its %d decisions has this request id; full files are beside it, as NAME.1 and so on, and allowed requests may be sampled", count)
	}
	view, err := j.judge(found)
	if err == nil && f.requestID != "" && matches > 1 {
		view.Notes = append(view.Notes, strconv.Itoa(matches)+" decisions have this request id; this is the last. Clients choose the id, and a check that got no answer is made again")
	}
	return view, err
}

// judge tells what settings make of recorded decisions. Without settings, or
// without keys, there is still the record.
type judge struct {
	settings *config.Settings // nil: faulty
	replayer *authz.Replayer  // nil: nothing is judged again
	why      string           // not
}

// newJudge goes by the settings as far as they are there. What is wrong with them is
// told and ends nothing: a record can be read anywhere.
func (in *invocation) newJudge() *judge {
	s, err := in.settings(config.NeedUp)
	if err != nil {
		in.complain("warning: " + err.Error())
		return &judge{why: "the settings are wrong"}
	}
	j := &judge{settings: s}
	verifier, err := newVerifier(s)
	if err != nil {
		j.why = err.Error()
		return j
	}
	if j.replayer, err = authz.NewReplayer(authzd.Rules(s, verifier)); err != nil {
		j.why = err.Error()
	}
	return j
}

// judge puts a record and what is made of it together. What is shown of clients and
// upstreams is what was, never what would be.
func (j *judge) judge(d *gatehousev1.Decision) (explanationView, error) {
	told := authz.Explanation{Decision: d}
	recorded := &recordedView{Verdict: "not judged", Why: orNull(j.why)}
	if j.replayer != nil {
		again, said, err := j.replayer.Explain(d)
		if err != nil {
			return explanationView{}, err
		}
		told = again
		recorded = &recordedView{Verdict: string(said.Verdict), Why: orNull(said.Why)}
		if said.Verdict != authz.Undecidable {
			recorded.To = &endingView{said.To.Outcome, said.To.Reason, said.To.Status}
		}
	}
	place := placement{Finding: findingRecorded, Name: orNull(d.GetRoute()), AsksAuthz: true}
	view := newView(told, place)
	view.Recorded = recorded
	for i := range view.Steps {
		// What is judged again has a stand-in for the header, of which nothing more
		// was recorded.
		if step := &view.Steps[i]; step.Name == "authorization" && step.Checked != nil {
			step.Checked = orNull(recordedHeader(d))
		}
	}
	view.decision, view.Decision = d, lineOf(d)
	if recorded.Verdict != string(authz.Same) {
		view.onlyRecorded(d)
	}
	return view, nil
}

// recordedHeader is what a record says of the Authorization header.
func recordedHeader(d *gatehousev1.Decision) string {
	switch {
	case d.GetReason() == problem.NotAuthenticated.Reason:
		return "no header, several, another scheme or an empty token: which one was not recorded"
	case d.GetToken() == nil:
		return "not recorded: the route asked for no token"
	}
	return "one Authorization header, with a Bearer token"
}

// onlyRecorded takes out what is not known of the decision as it was.
func (v *explanationView) onlyRecorded(d *gatehousev1.Decision) {
	v.Envoy, v.Upstream, v.Clients = nil, nil, clientsView{}
	v.ReachesUpstream, v.AnsweredBy = outcomeOf(d) == "allow", "upstream"
	if v.ReachesUpstream {
		return
	}
	v.AnsweredBy = "authz"
	switch d.GetReason() {
	case problem.TokenAudience("").Reason, problem.ClaimsMissing().Reason:
		return // their texts name what was asked for then
	}
	for _, p := range problem.Decisions() {
		if p.Reason != d.GetReason() {
			continue
		}
		headers := []headerView{{"content-type", "application/json"}}
		if p.Challenge != "" {
			headers = append(headers, headerView{"www-authenticate", p.Challenge})
		}
		if p.RetryAfter > 0 {
			headers = append(headers, headerView{"retry-after", strconv.Itoa(p.RetryAfter)})
		}
		v.Clients = clients(p.Status, headers, string(p.Body()))
	}
}
