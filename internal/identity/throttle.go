package identity

import (
	"net/netip"
	"time"
)

// ThrottleKey stands for whatever is counted: a source, an address at a source.
// It is a keyed hash, so that nobody who reads what was counted learns of whom.
type ThrottleKey [16]byte

// ThrottleScope names a limit that an attempt ran into.
type ThrottleScope string

// The limits. The empty scope is none: the attempt may go on.
const (
	ScopeSource        ThrottleScope = "source"         // too much from one source
	ScopeAccountSource ThrottleScope = "account_source" // one source is wrong about one address too often
	ScopeAccount       ThrottleScope = "account"        // all unfamiliar sources are, together
	ScopeUser          ThrottleScope = "user"           // one who is logged in does too much
	ScopeRegister      ThrottleScope = "register"       // too many registrations
	ScopeMail          ThrottleScope = "mail"           // too many mails are asked for
)

// ThrottleScopes lists the scopes.
func ThrottleScopes() []ThrottleScope {
	return []ThrottleScope{ScopeSource, ScopeAccountSource, ScopeAccount, ScopeUser, ScopeRegister, ScopeMail}
}

// Quota is how often something may happen in any stretch of time of a length.
// Most zero: as often as one likes.
type Quota struct {
	Most   int
	Within time.Duration
}

// LoginLimits are the limits on guessing passwords. What is zero is no limit.
type LoginLimits struct {
	// A source may try SourceBurst times at once, and once more in each
	// SourceEvery, whether it is right or wrong.
	SourceBurst    int
	SourceEvery    time.Duration
	SourceFailures Quota

	// FirstWait is the failure, counted from 1, of one source with one address
	// after which it waits for Wait; each further one doubles that, up to
	// LongestWait. All is forgotten after Forget without an attempt, and by a
	// success.
	FirstWait                 int
	Wait, LongestWait, Forget time.Duration
	// Parallel is how many attempts of one source with one address may be judged
	// at the same time. Once it has to wait after each failure, it is one.
	Parallel int

	// AccountFailures is of all sources together that are not familiar.
	AccountFailures Quota
	// A network is familiar for FamiliarFor after a login of the account from it;
	// the last FamiliarMost are remembered.
	FamiliarFor  time.Duration
	FamiliarMost int
}

// LoginAttempt is one guess, before it is judged.
type LoginAttempt struct {
	Source        ThrottleKey
	AccountSource ThrottleKey
	Account       ThrottleKey
	// Email finds the account whose networks are familiar; it is not kept.
	Email string
	// Network is what may be familiar of the source; zero: nothing.
	Network netip.Prefix
	Limits  LoginLimits
	// HeldBack is for how long the answer to a failure is still kept back. Who has to
	// wait after it does so from the answer on, not from before it.
	HeldBack time.Duration
}

// LoginTurn says whether an attempt may be judged.
type LoginTurn struct {
	// Refused is the limit that stands in the way; empty: none does.
	Refused ThrottleScope
	// RetryAfter is how long it will; zero: not long, or not known.
	RetryAfter time.Duration
	// Familiar must be handed back when the turn ends.
	Familiar bool
}

// LoginOutcome is how a turn ended.
type LoginOutcome int

// The outcomes.
const (
	LoginUndecided LoginOutcome = iota // nothing was learnt from it: it never was
	LoginFailed
	LoginSucceeded
)

// Budget is a limit on how often something may be done under one key.
type Budget struct {
	Key    ThrottleKey
	Quotas [2]Quota // both hold
}
