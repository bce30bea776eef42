package login

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
)

// Throttle counts guesses for all login services together. An attempt is
// reserved before its password is judged and settled after, so that many at once
// pass no limit, and those who are right are not refused for being many.
type Throttle interface {
	ReserveLogin(ctx context.Context, attempt identity.LoginAttempt) (identity.LoginTurn, error)
	SettleLogin(ctx context.Context, attempt identity.LoginAttempt, turn identity.LoginTurn, outcome identity.LoginOutcome, user identity.UserID) (reached identity.ThrottleScope, err error)
	// SweepThrottle deletes what counts for nothing any more, a bounded number at
	// a time, and networks in which nobody has logged in for this long.
	SweepThrottle(ctx context.Context, familiarFor time.Duration) (swept int, err error)
}

// Budgets count what else can be done too often. Spend takes from every budget
// or from none.
type Budgets interface {
	Spend(ctx context.Context, budgets ...identity.Budget) (ok bool, retryAfter time.Duration, err error)
	Refund(ctx context.Context, keys ...identity.ThrottleKey) error
}

// Limits are the figures of the throttle. What is zero is no limit.
type Limits struct {
	Login identity.LoginLimits
	// User is of ensure-company, logout and password change together.
	User identity.Quota
	// RegisterSource holds for one source, Register for all together.
	RegisterSource [2]identity.Quota
	Register       identity.Quota
	// MailSource bounds the mails that one source asks for, and MailAddress those of one
	// kind to one address, whether anybody has it or not.
	MailSource, MailAddress [2]identity.Quota
}

// settleTime bounds the settling of an attempt, which is not given up when its
// client hangs up: whoever did not wait for the answer has still guessed.
const settleTime = 2 * time.Second

// turn is one attempt that may be judged.
type turn struct {
	s       *Service
	attempt identity.LoginAttempt
	granted identity.LoginTurn
	user    identity.UserID // whom the password was proved of; zero: of nobody
	settled bool
}

// reserve lets an attempt on an account begin. The caller must end it.
//
// It is asked for before anything is looked up, and says the same of addresses
// that nobody has.
func (s *Service) reserve(ctx context.Context, x *exchange, email string) (*turn, error) {
	t := &turn{s: s, settled: s.with.Unthrottled}
	if t.settled {
		return t, nil
	}
	if unheard(x.r, s.with.TrustedProxies) {
		s.strange.Do(func() {
			s.with.Logger.LogAttrs(ctx, slog.LevelWarn,
				"a peer that is not among the trusted proxies says whom it speaks for; all of its clients together count as one source",
				slog.String("peer", clientName(x.source)))
		})
	}
	at := cut(x.source, 32, 64)
	folded := fold(email)
	t.attempt = identity.LoginAttempt{
		Source:        s.key("source", "", at),
		AccountSource: s.key("account and source", folded, at),
		Account:       s.key("account", folded, netip.Prefix{}),
		Email:         email,
		Network:       cut(x.source, 24, 56),
		Limits:        s.with.Limits.Login,
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	var err error
	t.granted, err = s.with.Throttle.ReserveLogin(ctx, t.attempt)
	if err != nil {
		return nil, unanswered(err)
	}
	if t.granted.Refused != "" {
		return nil, s.throttled(t.granted.Refused, t.granted.RetryAfter)
	}
	return t, nil
}

// settling is what it may take until a failure is written down. A wait that ends later
// than it should would be told in whole seconds more.
const settling = 100 * time.Millisecond

// failed counts a failure. If that cannot be done, nobody may hear that it was
// one: guesses that are not counted would be free. It will be told when it is due;
// on a machine where that is late, a wait from now on would be over by then.
func (t *turn) failed(ctx context.Context, user identity.UserID, due time.Time) error {
	if t.settled {
		return nil
	}
	t.settled = true
	t.attempt.HeldBack = time.Until(due) - settling
	reached, err := t.settle(ctx, identity.LoginFailed, user)
	if err != nil {
		return errUnavailable.Because(err)
	}
	if reached != "" && !user.IsZero() {
		t.s.note(ctx, identity.Event{
			Name: "throttle.blocked", Outcome: identity.Denied, Subject: user, Details: map[string]any{"scope": string(reached)},
		})
	}
	return nil
}

// proved notes that the password was the right one.
func (t *turn) proved(user identity.UserID) { t.user = user }

// end settles a turn that was not a failure.
func (t *turn) end(ctx context.Context) {
	if t.settled {
		return
	}
	t.settled = true
	outcome := identity.LoginUndecided
	if !t.user.IsZero() {
		outcome = identity.LoginSucceeded
	}
	// It lapses by itself, and nothing else depends on it.
	if _, err := t.settle(ctx, outcome, t.user); err != nil {
		t.s.with.Logger.LogAttrs(ctx, slog.LevelWarn, "an attempt to log in was not settled", slog.String("error", err.Error()))
	}
}

func (t *turn) settle(ctx context.Context, outcome identity.LoginOutcome, user identity.UserID) (reached identity.ThrottleScope, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	return t.s.with.Throttle.SettleLogin(ctx, t.attempt, t.granted, outcome, user)
}

// acting is who asks for something that changes something, by a good token, and
// counts it against what one user may do in a while.
func (s *Service) acting(ctx context.Context, x *exchange) (identity.Credential, error) {
	credential, err := s.bearer(x)
	if err != nil {
		return identity.Credential{}, err
	}
	return credential, s.spendOfUser(ctx, credential.User)
}

// spendOfUser counts an act of somebody who is logged in.
func (s *Service) spendOfUser(ctx context.Context, user identity.UserID) error {
	return s.spend(ctx, identity.ScopeUser, identity.Budget{
		Key:    s.key("user", user.String(), netip.Prefix{}),
		Quotas: [2]identity.Quota{s.with.Limits.User},
	})
}

func (s *Service) spend(ctx context.Context, scope identity.ThrottleScope, budgets ...identity.Budget) error {
	if s.with.Unthrottled {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	ok, retryAfter, err := s.with.Budgets.Spend(ctx, budgets...)
	switch {
	case err != nil:
		return unanswered(err)
	case !ok:
		return s.throttled(scope, retryAfter)
	default:
		return nil
	}
}

func (s *Service) throttled(by identity.ThrottleScope, retryAfter time.Duration) error {
	s.metrics.blocks.WithLabelValues(string(by)).Inc()
	p := *errThrottled
	p.RetryAfter = max(1, int((retryAfter+time.Second-1)/time.Second))
	return &p
}

// key is what a source, an address or both are counted under. It is keyed, or
// whoever reads the table could try addresses until one fits. An address that is
// lawful holds no NUL, so that no two of what is hashed here are alike.
func (s *Service) key(kind, of string, at netip.Prefix) identity.ThrottleKey {
	mac := hmac.New(sha256.New, s.with.ThrottleSecret)
	mac.Write([]byte(kind + "\x00" + of + "\x00"))
	if at.IsValid() {
		mac.Write([]byte(at.String()))
	}
	return identity.ThrottleKey(mac.Sum(nil))
}

// fold makes one of the spellings of an address that find the same account.
func fold(email string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, email)
}

// cut is the network of an address: whoever has one IPv6 address has all of its
// /64. The zero Addr has none.
func cut(at netip.Addr, v4, v6 int) netip.Prefix {
	bits := v6
	if at.Is4() {
		bits = v4
	}
	p, err := at.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
