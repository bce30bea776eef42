package authz

import (
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// Question is a request that an explanation is asked for, as Envoy would put it.
type Question struct {
	Method string
	Path   string
	// Authorization has the value of each Authorization header, "Bearer ..." in
	// full.
	Authorization []string
	RequestID     string

	// Mode, Route and Roles are the context extensions of the route, by their wire
	// names auth_mode, route and roles. Where all are empty the proxy says nothing of
	// the route, and Options.Router is asked, if there is one.
	Mode, Route, Roles string
}

// Explanation is a decision with all that led to it and all that it makes Envoy
// do. There is no token, no signature, no secret and no email in it, so that it can
// be shown and kept.
type Explanation struct {
	// Decision is what the decision log would have of it, but for the duration and
	// the trace.
	Decision *gatehousev1.Decision
	// Steps are the route, the Authorization header and the rows of the contract's
	// table, in that order. There is one for each reason of a refusal, and the first
	// that failed has that of the decision.
	Steps []Step
	// Effects are read off the answer that Envoy would get.
	Effects Effects
}

// Step is one check of a decision.
type Step struct {
	Name   string
	Status Status
	// Reason is that of a decision which ends here; empty for the route, where none
	// does.
	Reason string
	// Checked says what was held against what, or why nothing was. It is one line of
	// printable text; empty where a step was not reached.
	Checked string
}

// Status is how a step ended.
type Status string

// What can become of a step.
const (
	Passed     Status = "passed"
	Failed     Status = "failed"
	NotAsked   Status = "not asked"   // by these rules, or of this token
	NotReached Status = "not reached" // another step had ended the check
)

var errNoReader = errors.New("a gate without Options.Tokens cannot tell what a token says")

// Explain decides as for a check that arrives at now, and tells how. The decision
// is that of the same code, with the same memory and directory; only nothing is
// counted, logged or recorded.
func (g *Gate) Explain(ctx context.Context, q Question, now time.Time) (Explanation, error) {
	if g.tokens == nil {
		return Explanation{}, errNoReader
	}
	r := request{
		method: q.Method, path: withoutQuery(q.Path), id: printable(q.RequestID),
		mode: q.Mode, route: printable(q.Route), roles: q.Roles,
		told: q.Mode != "" || q.Route != "" || q.Roles != "",
	}
	if !utf8.ValidString(r.path) {
		r.path = ""
	}
	for _, value := range q.Authorization {
		r.authorization.add(value)
	}
	g.locate(&r)
	var t trail
	d := g.decide(ctx, &r, now, &t)
	x := examination{
		request: r, decision: d, trail: t,
		routed: g.router != nil && !r.told,
		at:     now, rules: g.rules.of(t.credential.Issuer),
	}
	if t.raw != "" {
		s, err := g.tokens.Read(t.raw)
		if err != nil {
			x.malformed = err.Error()
		} else {
			x.said = &s
		}
		x.takenFor(g.tokens, s)
	}
	return g.explained(x, g.recorded(r, d, &t, now))
}

func (g *Gate) explained(x examination, record *gatehousev1.Decision) (Explanation, error) {
	answer, err := g.write(nil, &x.request, &x.decision)
	if err != nil {
		return Explanation{}, err
	}
	done, err := effects(answer)
	if err != nil {
		return Explanation{}, err
	}
	done.Email = x.email()
	return Explanation{Decision: record, Steps: x.steps(), Effects: done}, nil
}

func (x *examination) email() string {
	switch {
	case x.decision.outcome != allowed:
		return ""
	case x.decision.anonymous:
		return "withheld"
	case x.recorded:
		return "not recorded"
	case x.decision.identity.Email == "":
		return "none"
	case !sendable(x.decision.identity.Email):
		return "not sendable"
	}
	return "set"
}

// examination is all that an explanation is told from: of a check that was just
// made, or of one that was recorded. It decides nothing.
type examination struct {
	request  request
	decision decision
	trail    trail
	recorded bool // judged again from a record
	routed   bool // the route is by the path, not by the proxy's word

	said      *token.Statement // nil: no token, or one that cannot be read
	malformed string           // why it cannot

	at     time.Time
	rules  rules        // for the users of whoever issued the token
	issuer token.Choice // whose the token says that it is
	terms  token.Rules  // and what that one's tokens are held against
}

// takenFor says whose the token was taken for, and is called wherever there was one.
func (x *examination) takenFor(tokens *token.Verifier, s token.Statement) {
	if x.malformed == "" {
		x.issuer = tokens.Choose(s.Issuer, s.Algorithm)
	} else if x.issuer, _ = tokens.Called(s.From); x.issuer.Name == "" {
		x.issuer, _ = tokens.Called(token.Own) // by a name that is nobody's any more
	}
	x.terms = x.issuer.Terms()
}

// row is one step of every check.
type row struct {
	name   string
	reason string
	// tell says what was held against what; asked is false where these rules, or
	// this token, have nothing to ask.
	tell func(*examination) (text string, asked bool)
}

// rows are those of the contract's table, in its order, and the header before it.
func rows() []row {
	return []row{
		{"authorization", problem.NotAuthenticated.Reason, (*examination).bearer},
		{"form", problem.TokenMalformed.Reason, (*examination).form},
		{"signature", problem.TokenSignature.Reason, (*examination).signature},
		{"expiry", problem.TokenExpired.Reason, (*examination).expiry},
		{"not before", problem.TokenNotYetValid.Reason, (*examination).notBefore},
		{"audience", problem.TokenAudience("").Reason, (*examination).audience},
		{"issuer", problem.TokenIssuer.Reason, (*examination).iss},
		{"role claim", problem.TokenRole.Reason, (*examination).roleClaim},
		{"required claims", problem.ClaimsMissing().Reason, (*examination).required},
		{"subject", problem.SubjectMissing.Reason, (*examination).subject},
		{"user id", problem.SubjectInvalid.Reason, (*examination).userID},
		{"company id", problem.CompanyInvalid.Reason, (*examination).companyID},
		{"user", problem.UserNotFound.Reason, (*examination).user},
		{"active", problem.UserInactive.Reason, (*examination).active},
		{"revocation", problem.TokenRevoked.Reason, (*examination).revocation},
		{"company", problem.CompanyMissing.Reason, (*examination).company},
		{"membership", problem.CompanyLeft.Reason, (*examination).membership},
		{"suspension", problem.CompanySuspended.Reason, (*examination).suspension},
		{"role", problem.RoleInsufficient.Reason, (*examination).role},
		{"store", problem.Unavailable.Reason, (*examination).store},
		{"fault", problem.Internal.Reason, (*examination).fault},
	}
}

// steps says of each row how it ended. Which one ended the check is the decision's
// to say, and what came before it had passed; nothing is judged again here.
func (x *examination) steps() []Step {
	steps := []Step{{Name: "route", Status: Passed, Checked: x.route()}}
	open := x.decision.mode == open && x.decision.outcome == allowed
	reason := x.decision.reason()
	over := false
	for _, row := range rows() {
		s := Step{Name: row.name, Reason: row.reason}
		switch {
		case open:
			s.Status, s.Checked = NotAsked, "the route asks for nobody in particular"
		case row.reason == reason:
			s.Status, over = Failed, true
			s.Checked, _ = row.tell(x)
		case x.passed(row.reason, over):
			text, asked := row.tell(x)
			if s.Status, s.Checked = Passed, text; !asked {
				s.Status = NotAsked
			}
		default:
			s.Status = NotReached
		}
		steps = append(steps, s)
	}
	return steps
}

// passed reports whether a row other than that of the decision's reason was gone
// through; over, whether it comes after that one.
func (x *examination) passed(reason string, over bool) bool {
	switch {
	case reason == problem.Unavailable.Reason:
		return x.trail.stage == atJudge || x.trail.stage == atUser && x.decision.outcome != failed
	case over:
		return false
	case x.decision.outcome != failed:
		return true
	}
	// What cannot be decided ends between two rows.
	switch reason {
	case problem.NotAuthenticated.Reason:
		return x.trail.stage >= atToken
	case problem.TokenMalformed.Reason:
		return x.trail.stage > atToken || x.decision.reason() == problem.Unavailable.Reason
	}
	return x.trail.stage > atToken && ofToken(reason)
}

// ofToken reports a row that needs nothing but the token.
func ofToken(reason string) bool {
	for _, row := range rows() {
		switch row.reason {
		case problem.UserNotFound.Reason:
			return false
		case reason:
			return true
		}
	}
	return false
}

func (x *examination) standing() *identity.Standing {
	if x.trail.source == "" {
		return nil
	}
	return &x.trail.standing
}
