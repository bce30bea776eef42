package identity

import (
	"context"
	"net/netip"
)

// Outcome says how an act that is worth a record ended.
type Outcome string

// The outcomes. A denial is a judgement (not allowed), a failure is not (a wrong
// password).
const (
	Success Outcome = "success"
	Failure Outcome = "failure"
	Denied  Outcome = "denied"
)

// Event is one record of the audit log: who did what to whom, when and where. It
// never holds a password, a token, a hash or the address that somebody typed who
// is not known: people type passwords there.
type Event struct {
	// Name is "noun.what-happened", such as "invitation.accepted".
	Name    string
	Outcome Outcome // empty: Success
	// Actor is the user who acted; zero: nobody who is known, or an operator, who
	// is in the Origin.
	Actor UserID
	// Subject is the user whom it was done to, also where that is the actor.
	Subject UserID
	Company CompanyID // zero: none
	Session SessionID // zero: none
	// Details are what else there is to say, in a few short words each.
	Details map[string]any
}

// Origin is where an act came from, for the audit log. It travels with the
// context, because every act has one and none depends on it: nothing is ever
// decided by an Origin.
type Origin struct {
	// Operator is the name of whoever ran a command; empty: no command.
	Operator  string
	Address   netip.Addr // the zero Addr: not known
	RequestID string     // of an HTTP request
}

type originKey struct{}

// WithOrigin returns a context whose acts came from o.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf is the zero Origin where none was set.
func OriginOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}
