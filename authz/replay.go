package authz

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// Replayer judges recorded decisions again, as of their own time and under other
// rules, without the tokens. What cannot be known without them it says it cannot
// decide. It asks nobody, and may be used by any number of goroutines.
type Replayer struct {
	rules   rules
	router  Router // nil: routes are as recorded
	tokens  *token.Verifier
	answers *answers

	streamMax time.Duration
}

// NewReplayer takes the rules out of o: those on users, companies, roles and old
// tokens, and Tokens (or Verifier, if it is one of package token), which is needed.
// Where there is a Router, every decision is routed again, whoever said at that time
// what its route asks for. StreamMax shows in what Explain tells of an allow. The
// rest of o is not looked at.
func NewReplayer(o Options) (*Replayer, error) {
	if o.Tokens == nil {
		o.Tokens, _ = o.Verifier.(*token.Verifier)
	}
	if o.Tokens == nil {
		return nil, errNoReader
	}
	answers, err := newAnswers()
	if err != nil {
		return nil, err
	}
	return &Replayer{rules: o.rules(), router: o.Router, tokens: o.Tokens, answers: answers, streamMax: o.StreamMax}, nil
}

// Verdict is what became of a decision that was judged again.
type Verdict string

// The verdicts.
const (
	Same    Verdict = "same"
	Changed Verdict = "changed"
	// Undecidable decisions depend on what was not recorded, such as whether
	// another key would have verified the signature.
	Undecidable Verdict = "undecidable"
)

// Ending is how a decision ends.
type Ending struct {
	Outcome string // "allow", "deny" or "error"
	Reason  string
	Status  int // HTTP; 200 with an allow
}

// Replayed is a decision that was judged again.
type Replayed struct {
	Verdict  Verdict
	From, To Ending // To is the zero Ending of what is undecidable
	// Why says what is missing, where it is undecidable.
	Why string
}

// Replay judges d again.
//
// A token that was found good by a key is taken to be good under a key of the same
// id, for the same kid and algorithm; ids of secrets and of PEM keys are made of
// the keys themselves, those of a JWK set are what the set calls them.
func (p *Replayer) Replay(d *gatehousev1.Decision) Replayed {
	again, _, w := p.judge(d)
	return replayed(d, again, w)
}

func replayed(d *gatehousev1.Decision, again decision, w *witness) Replayed {
	out := Replayed{From: Ending{Outcome: word(d.GetOutcome()), Reason: d.GetReason(), Status: int(d.GetStatus())}}
	if w.missing != "" {
		out.Verdict, out.Why = Undecidable, w.missing
		return out
	}
	out.To = Ending{Outcome: again.outcome.String(), Reason: again.reason(), Status: int(statusSeen(again))}
	out.Verdict = Changed
	if out.From.Outcome == out.To.Outcome && out.From.Reason == out.To.Reason {
		out.Verdict = Same
	}
	return out
}

// Explain tells how d is judged again, as Gate.Explain does of a check. Steps and
// Effects are of the new decision, and missing where it is undecidable. The email
// was not recorded, so that no effect has one.
func (p *Replayer) Explain(d *gatehousev1.Decision) (Explanation, Replayed, error) {
	again, t, w := p.judge(d)
	said := replayed(d, again, w)
	if said.Verdict == Undecidable {
		return Explanation{Decision: d}, said, nil
	}
	x := examination{
		request: p.request(d), decision: again, trail: *t,
		recorded: true, routed: p.router != nil,
		at: d.GetTime().AsTime(), rules: p.rules.of(t.credential.Issuer),
		malformed: d.GetToken().GetMalformed(),
	}
	if t := d.GetToken(); t != nil {
		s := statementOf(t)
		if x.malformed == "" {
			x.said = &s
		}
		x.takenFor(p.tokens, s)
	}
	e, err := p.gate(w).explained(x, d)
	return e, said, err
}

// judge runs the decision itself, with a witness in the place of those whom it asks.
func (p *Replayer) judge(d *gatehousev1.Decision) (decision, *trail, *witness) {
	w := &witness{record: d, tokens: p.tokens}
	t := &trail{}
	r := p.request(d)
	again := p.gate(w).decide(context.Background(), &r, d.GetTime().AsTime(), t)
	if p.router != nil && d.GetPathAltered() {
		_ = w.lacks("the path was too long or not printable, and not recorded as it was")
	}
	if t.source != "" {
		t.source = d.GetStanding().GetSource()
	}
	return again, t, w
}

func (p *Replayer) gate(w *witness) *Gate {
	return &Gate{verifier: w, memory: w, rules: p.rules, answers: p.answers, tokens: p.tokens, streamMax: p.streamMax}
}

// request is the one that was decided on, as far as it was recorded. Where a token
// was brought, or may have been, something stands in its place: the witness knows
// what.
func (p *Replayer) request(d *gatehousev1.Decision) request {
	r := request{
		method: d.GetMethod(), path: d.GetPath(), id: d.GetRequestId(),
		route: d.GetRoute(), mode: d.GetMode(), roles: strings.Join(d.GetRoles(), ","),
	}
	if len(d.GetRoles()) > 0 && r.roles == "" {
		r.roles = " " // asked for, and naming nobody
	}
	if d.GetReason() != problem.NotAuthenticated.Reason {
		r.authorization.add("Bearer recorded")
	}
	(&Gate{router: p.router}).locate(&r)
	return r
}

// witness answers a decision from the record of another one.
type witness struct {
	record *gatehousev1.Decision
	tokens *token.Verifier
	// missing is what a decision would have to know and the record does not tell;
	// whatever the decision then is, it is none.
	missing string
}

var errNotRecorded = errors.New("not recorded")

func (w *witness) lacks(what string) error {
	w.missing = what
	return errNotRecorded
}

// Verify says what the verifier would have said of the token.
func (w *witness) Verify(_ string, at time.Time) (identity.Credential, error) {
	none := identity.Credential{}
	t, d := w.record.GetToken(), w.record
	issuer := w.tokens.Choose(t.GetIssuer(), t.GetAlgorithm())
	if t.GetMalformed() != "" { // its iss was not recorded, and may not have been read
		issuer, _ = w.tokens.Called(t.GetIssuedBy())
	}
	switch {
	case d.GetReason() == problem.Internal.Reason:
		return none, w.lacks("the check ended in a fault of the service, not in a judgement")
	case t == nil && d.GetMode() == open.String():
		return none, w.lacks("the route was open to everybody, so that no token was looked for")
	case t == nil:
		return none, w.lacks("what the token says was not recorded")
	case issuer.Name == "":
		return none, w.lacks("the token was taken for one of " + t.GetIssuedBy() + ", which is no issuer any more")
	case t.GetProfile() != issuer.Claims:
		return none, w.lacks("the token was read in the profile " + t.GetProfile() + ", and says other things in the profile " + issuer.Claims)
	case t.GetMalformed() != "" && !issuer.Sole && !issuer.Foreign():
		return none, w.lacks("the token could not be read, and may be one of another issuer")
	case t.GetMalformed() != "":
		return none, problem.TokenMalformed.Because(errors.New(t.GetMalformed()))
	case t.GetAltered():
		return none, w.lacks("the token's texts were too long or not printable, and not recorded as they were")
	}
	place := issuer.Locate(t.GetAlgorithm(), t.GetKeyId())
	switch {
	case !place.Accepted:
		return none, problem.TokenMalformed
	case !place.Found && !place.MayCome:
		return none, problem.TokenSignature
	case !place.Found:
		return none, w.lacks("the key that the token names may be among those of the other issuer, which are not known here")
	case place.Key.ID() != t.GetHeldAgainst():
		return none, w.lacks("the token would be held against another key, for which its signature is needed")
	case !t.GetVerified() && d.GetReason() != problem.TokenSignature.Reason:
		return none, w.lacks("the check ended before the signature was verified")
	case !t.GetVerified():
		return none, problem.TokenSignature
	}
	return w.tokens.Judge(statementOf(t), at)
}

// Peek says what was true of the user.
func (w *witness) Peek(identity.UserID, identity.SessionID, identity.CompanyID, time.Time) (identity.Standing, bool) {
	s := w.record.GetStanding()
	if s != nil {
		return standingOf(s), true
	}
	switch reason := w.record.GetReason(); {
	case reason == problem.Unavailable.Reason:
		_ = w.lacks("the user could not be looked up then")
	case w.record.GetOutcome() == gatehousev1.Outcome_OUTCOME_ALLOW, !ofToken(reason):
		_ = w.lacks("users were not looked up then")
	default:
		_ = w.lacks("the check ended with " + reason + ", before the user was looked up")
	}
	return identity.Standing{}, true
}

func statementOf(t *gatehousev1.Token) token.Statement {
	return token.Statement{
		From:        t.GetIssuedBy(),
		Claims:      t.GetProfile(),
		Algorithm:   t.GetAlgorithm(),
		KeyID:       t.GetKeyId(),
		Subject:     t.Subject,
		Session:     t.SessionId,
		Issuer:      t.GetIssuer(),
		Role:        t.GetRole(),
		Company:     t.GetCompanyId(),
		Audience:    t.GetAudience(),
		HasAudience: t.GetHasAudience(),
		Roles:       t.GetRoles(),
		IssuedAt:    instantOf(t.GetIssuedAt()),
		NotBefore:   instantOf(t.GetNotBefore()),
		ExpiresAt:   instantOf(t.GetExpiresAt()),
	}
}

func instantOf(at *timestamppb.Timestamp) *time.Time {
	if at == nil {
		return nil
	}
	t := at.AsTime()
	return &t
}

func standingOf(s *gatehousev1.Standing) identity.Standing {
	when := func(at *timestamppb.Timestamp) time.Time {
		if at == nil {
			return time.Time{}
		}
		return at.AsTime()
	}
	out := identity.Standing{
		Exists:           s.GetExists(),
		Active:           s.GetActive(),
		Suspended:        s.GetSuspended(),
		TokensValidAfter: when(s.GetTokensValidAfter()),
		Session: identity.Session{
			Exists:    s.GetSession().GetExists(),
			Ended:     s.GetSession().GetEnded(),
			ValidFrom: when(s.GetSession().GetValidFrom()),
			NotAfter:  when(s.GetSession().GetNotAfter()),
		},
	}
	for _, m := range s.GetMemberships() {
		if id, err := identity.ParseCompanyID(m.GetCompanyId()); err == nil {
			out.Memberships = append(out.Memberships, identity.Membership{Company: id, Role: m.GetRole(), Suspended: m.GetSuspended()})
		}
	}
	return out
}
