package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/identity"
)

// The limits on logins. Each of their statements takes the rows that it needs in
// one order (source, account and source, account), each step of a statement
// fed by the one before: two of them never wait for each other. All times are
// the database's, so that the clocks of the services do not matter.
//
// A row of marks holds the times of what is counted, and no more of them than
// the limit: with all of them in a window, the limit is reached. That is exact,
// where a counter per hour or a leaking bucket would let nearly twice as many
// pass in some windows.

// lapse is after how long an attempt that nobody ended (its service died) counts
// no more. No request takes longer.
const lapse = 15 * time.Second

// bucketSQL is what a source may do now.
const bucketSQL = `least(@burst::float8, t.tokens + @rate::float8 * extract(epoch FROM greatest(now() - t.last_at, interval '0'))::float8)`

// reserveSQL lets an attempt begin, if no limit stands in the way. What is
// refused changes nothing, but that a source which was let in has spent one
// attempt, and (undone by undoPairSQL) that a pair which was let in is counted.
const reserveSQL = `
WITH src AS (
  INSERT INTO login_throttle AS t (key, tokens, last_at, expires_at)
  VALUES (@source, @burst::float8 - 1, now(), now() + @source_kept::interval)
  ON CONFLICT (key) DO UPDATE SET
    tokens = ` + bucketSQL + ` - 1, last_at = greatest(t.last_at, now()), expires_at = greatest(t.expires_at, excluded.expires_at)
  WHERE ` + bucketSQL + ` >= 1
    AND coalesce(t.marks[cardinality(t.marks) - @source_most::int + 1] <= now() - @source_within::interval, true)
  RETURNING 1),
pair AS (
  INSERT INTO login_throttle AS t (key, inflight, last_at, expires_at)
  SELECT @pair::bytea, 1, now(), now() + @forget::interval FROM src
  ON CONFLICT (key) DO UPDATE SET
    failures = CASE WHEN t.expires_at < now() THEN 0 ELSE t.failures END,
    inflight = CASE WHEN t.last_at < now() - @lapse::interval THEN 1 ELSE t.inflight + 1 END,
    last_at = now(), expires_at = excluded.expires_at
  WHERE coalesce(t.blocked_until <= now(), true)
    AND (t.last_at < now() - @lapse::interval OR t.inflight <
         CASE WHEN @first::int > 0 AND t.failures >= @first::int AND t.expires_at >= now() THEN 1 ELSE @parallel::int END)
  RETURNING 1),
familiar AS (
  SELECT EXISTS (SELECT FROM users u JOIN login_known_sources k ON k.user_id = u.id
                  WHERE lower(u.email COLLATE "C") = lower(@email::text COLLATE "C")
                    AND k.source = @network::cidr AND k.last_success > now() - @familiar_for::interval) AS yes
    FROM pair),
acct AS (
  INSERT INTO login_throttle AS t (key, inflight, last_at, expires_at)
  SELECT @account::bytea, 1, now(), now() + @lapse::interval FROM familiar WHERE NOT yes AND @account_most::int > 0
  ON CONFLICT (key) DO UPDATE SET
    inflight = CASE WHEN t.last_at < now() - @lapse::interval THEN 1 ELSE t.inflight + 1 END,
    last_at = now(), expires_at = greatest(t.expires_at, excluded.expires_at)
  WHERE (CASE WHEN t.last_at < now() - @lapse::interval THEN 0 ELSE t.inflight END) < @account_most::int
    AND coalesce(t.marks[cardinality(t.marks) + 1 - (@account_most::int -
          (CASE WHEN t.last_at < now() - @lapse::interval THEN 0 ELSE t.inflight END))] <= now() - @account_within::interval, true)
  RETURNING 1)
SELECT EXISTS (SELECT FROM src), EXISTS (SELECT FROM pair), coalesce((SELECT yes FROM familiar), false), EXISTS (SELECT FROM acct),
       coalesce(CASE
         WHEN NOT EXISTS (SELECT FROM src) THEN
           (SELECT greatest((1 - ` + bucketSQL + `) / @rate::float8,
                            extract(epoch FROM t.marks[cardinality(t.marks) - @source_most::int + 1] + @source_within::interval - now())::float8)
              FROM login_throttle t WHERE t.key = @source)
         WHEN NOT EXISTS (SELECT FROM pair) THEN
           (SELECT extract(epoch FROM t.blocked_until - now())::float8 FROM login_throttle t WHERE t.key = @pair)
         ELSE
           (SELECT extract(epoch FROM t.marks[cardinality(t.marks) - @account_most::int + 1] + @account_within::interval - now())::float8
              FROM login_throttle t WHERE t.key = @account)
       END, 0)::float8`

const undoPairSQL = `UPDATE login_throttle SET inflight = greatest(inflight - 1, 0) WHERE key = $1`

// ownersSQL writes down whose the counts of an address are, which were begun before
// the address had a user: by that an operator finds and forgives them.
const ownersSQL = `UPDATE login_throttle
   SET user_id = (SELECT u.id FROM users u WHERE lower(u.email COLLATE "C") = lower($3::text COLLATE "C"))
 WHERE key IN ($1, $2) AND user_id IS NULL`

// firstWaitSQL and nextWaitSQL are until when the first and any other failure lets
// a source wait.
const (
	waitSQL      = ` >= @first::int THEN now() + make_interval(secs => @held::float8 + least(@longest::float8, @wait::float8 * power(2::float8, least(`
	firstWaitSQL = `CASE WHEN @first::int > 0 AND 1` + waitSQL + `1 - @first::int, 40)))) END`
	nextWaitSQL  = `CASE WHEN @first::int > 0 AND t.failures + 1` + waitSQL + `t.failures + 1 - @first::int, 40)))) END`
)

// failedSQL counts a failure in all three places.
const failedSQL = `
WITH src AS (
  INSERT INTO login_throttle AS t (key, tokens, marks, last_at, expires_at)
  VALUES (@source, @burst::float8, ARRAY[now()], now(), now() + @source_within::interval)
  ON CONFLICT (key) DO UPDATE SET
    marks = (t.marks || now())[greatest(cardinality(t.marks) + 2 - @source_most::int, 1):],
    expires_at = greatest(t.expires_at, excluded.expires_at)
  RETURNING 1),
pair AS (
  INSERT INTO login_throttle AS t (key, failures, last_at, blocked_until, expires_at, user_id)
  SELECT @pair::bytea, 1, now(), ` + firstWaitSQL + `, now() + @forget::interval, @user::uuid FROM src
  ON CONFLICT (key) DO UPDATE SET
    failures = t.failures + 1, inflight = greatest(t.inflight - 1, 0), user_id = excluded.user_id,
    blocked_until = ` + nextWaitSQL + `,
    expires_at = greatest(excluded.expires_at, ` + nextWaitSQL + `)
  RETURNING t.blocked_until IS NOT NULL AS waits),
acct AS (
  INSERT INTO login_throttle AS t (key, marks, last_at, expires_at, user_id)
  SELECT @account::bytea, ARRAY[now()], now(), now() + @account_within::interval, @user::uuid FROM pair
   WHERE @unfamiliar::boolean AND @account_most::int > 0
  ON CONFLICT (key) DO UPDATE SET
    marks = (t.marks || now())[greatest(cardinality(t.marks) + 2 - @account_most::int, 1):],
    inflight = greatest(t.inflight - 1, 0), user_id = excluded.user_id,
    expires_at = greatest(t.expires_at, excluded.expires_at)
  RETURNING coalesce(t.marks[cardinality(t.marks) - @account_most::int + 1] > now() - @account_within::interval, false) AS shut)
SELECT coalesce((SELECT waits FROM pair), false), coalesce((SELECT shut FROM acct), false)`

// succeededSQL forgets what the source was wrong about before, and remembers the
// network. An hour is exact enough for something that is kept for weeks.
const succeededSQL = `
WITH pair AS (
  UPDATE login_throttle t SET failures = 0, blocked_until = NULL, inflight = greatest(t.inflight - 1, 0), expires_at = now() + @lapse::interval
   WHERE t.key = @pair RETURNING 1),
acct AS (
  UPDATE login_throttle t SET inflight = greatest(t.inflight - 1, 0)
   WHERE t.key = @account AND @unfamiliar::boolean AND (SELECT count(*) FROM pair) >= 0 RETURNING 1),
dropped AS (
  DELETE FROM login_known_sources
   WHERE user_id = @user AND source IN (
     SELECT k.source FROM login_known_sources k WHERE k.user_id = @user AND k.source <> @network::cidr
      ORDER BY k.last_success DESC, k.source OFFSET greatest(@familiar_most::int - 1, 0)))
INSERT INTO login_known_sources AS k (user_id, source, last_success)
SELECT u.id, @network::cidr, now() FROM users u WHERE u.id = @user AND @network::cidr IS NOT NULL
ON CONFLICT (user_id, source) DO UPDATE SET last_success = now() WHERE k.last_success < now() - interval '1 hour'`

const undecidedSQL = `
WITH src AS (
  UPDATE login_throttle t SET tokens = least(@burst::float8, t.tokens + 1) WHERE t.key = @source RETURNING 1),
pair AS (
  UPDATE login_throttle t SET inflight = greatest(t.inflight - 1, 0)
   WHERE t.key = @pair AND (SELECT count(*) FROM src) >= 0 RETURNING 1)
UPDATE login_throttle t SET inflight = greatest(t.inflight - 1, 0)
 WHERE t.key = @account AND @unfamiliar::boolean AND (SELECT count(*) FROM pair) >= 0`

// attemptArgs are the parameters of the statements above.
func attemptArgs(a identity.LoginAttempt) pgx.NamedArgs {
	l := a.Limits
	args := pgx.NamedArgs{
		"source": a.Source[:], "pair": a.AccountSource[:], "account": a.Account[:], "lapse": lapse,
		"email": a.Email, "network": nil, "familiar_for": l.FamiliarFor, "familiar_most": l.FamiliarMost,
		"source_most": l.SourceFailures.Most, "source_within": l.SourceFailures.Within, "source_kept": time.Minute,
		"first": l.FirstWait, "wait": l.Wait.Seconds(), "longest": l.LongestWait.Seconds(), "forget": l.Forget, "parallel": l.Parallel,
		"held":         max(a.HeldBack, 0).Seconds(),
		"account_most": l.AccountFailures.Most, "account_within": l.AccountFailures.Within,
		// No limit is a bucket that is never empty.
		"burst": 1e9, "rate": 1e9,
	}
	if l.SourceBurst > 0 && l.SourceEvery > 0 {
		args["burst"], args["rate"] = float64(l.SourceBurst), 1/l.SourceEvery.Seconds()
		// A bucket that is full again need not be remembered.
		args["source_kept"] = time.Duration(l.SourceBurst) * l.SourceEvery
	}
	if l.Parallel == 0 {
		args["parallel"] = math.MaxInt32
	}
	if a.Network.IsValid() && l.FamiliarMost > 0 {
		args["network"] = a.Network.Masked().String()
	}
	return args
}

// ReserveLogin lets an attempt begin, or says which limit is in its way. An
// attempt that begins must be ended with SettleLogin; until then it counts as one
// that is being judged, so that many at once are no more than the limits allow.
func (s *Store) ReserveLogin(ctx context.Context, a identity.LoginAttempt) (identity.LoginTurn, error) {
	if !storable(a.Email) {
		return identity.LoginTurn{}, ErrBadText
	}
	var turn identity.LoginTurn
	err := s.write(ctx, queryReserveLogin, func(ctx context.Context) error {
		var source, pair, account bool
		var seconds float64
		err := s.pool.QueryRow(ctx, reserveSQL, attemptArgs(a)).Scan(&source, &pair, &turn.Familiar, &account, &seconds)
		if err != nil {
			return fmt.Errorf("reserving a login: %w", err)
		}
		switch {
		case !source:
			turn.Refused = identity.ScopeSource
		case !pair:
			turn.Refused = identity.ScopeAccountSource
		case !account && !turn.Familiar && a.Limits.AccountFailures.Most > 0:
			turn.Refused = identity.ScopeAccount
			if _, err := s.pool.Exec(ctx, undoPairSQL, a.AccountSource[:]); err != nil {
				return fmt.Errorf("giving up a login: %w", err)
			}
		default:
			return nil
		}
		if turn.Refused != identity.ScopeSource {
			if _, err := s.pool.Exec(ctx, ownersSQL, a.AccountSource[:], a.Account[:], a.Email); err != nil {
				return fmt.Errorf("noting whose login was refused: %w", err)
			}
		}
		turn.RetryAfter = time.Duration(max(seconds, 0) * float64(time.Second))
		return nil
	})
	return turn, err
}

// SettleLogin ends an attempt. user is whom it was about, as far as it is known;
// after a success it must be. A failure may be the one by which a limit is
// reached, which is then named.
func (s *Store) SettleLogin(ctx context.Context, a identity.LoginAttempt, turn identity.LoginTurn, outcome identity.LoginOutcome, user identity.UserID) (reached identity.ThrottleScope, err error) {
	sql := undecidedSQL
	switch outcome {
	case identity.LoginFailed:
		sql = failedSQL
	case identity.LoginSucceeded:
		sql = succeededSQL
	case identity.LoginUndecided:
	}
	args := attemptArgs(a)
	args["unfamiliar"], args["user"] = !turn.Familiar, uuidOrNull(user)
	err = s.write(ctx, querySettleLogin, func(ctx context.Context) error {
		var waits, shut bool
		var err error
		if outcome == identity.LoginFailed {
			err = s.pool.QueryRow(ctx, sql, args).Scan(&waits, &shut)
		} else {
			_, err = s.pool.Exec(ctx, sql, args)
		}
		switch {
		case err != nil:
			return fmt.Errorf("settling a login: %w", err)
		case shut:
			reached = identity.ScopeAccount
		case waits:
			reached = identity.ScopeAccountSource
		}
		return nil
	})
	return reached, err
}

// A budget that is used up gives no row.
const (
	spendSQL = `
INSERT INTO login_throttle AS t (key, marks, last_at, expires_at)
VALUES ($1, ARRAY[now()], now(), now() + greatest($3::interval, $5::interval))
ON CONFLICT (key) DO UPDATE SET
  marks = (t.marks || now())[greatest(cardinality(t.marks) + 2 - greatest($2::int, $4::int), 1):],
  last_at = now(), expires_at = excluded.expires_at
WHERE coalesce(t.marks[cardinality(t.marks) - $2::int + 1] <= now() - $3::interval, true)
  AND coalesce(t.marks[cardinality(t.marks) - $4::int + 1] <= now() - $5::interval, true)
RETURNING true`

	spentSQL = `
SELECT coalesce(extract(epoch FROM greatest(t.marks[cardinality(t.marks) - $2::int + 1] + $3::interval,
                                            t.marks[cardinality(t.marks) - $4::int + 1] + $5::interval) - now()), 0)::float8
  FROM login_throttle t WHERE t.key = $1`
)

// errSpent ends a transaction in which a budget was used up.
var errSpent = errors.New("the budget is used up")

// Spend takes one from every budget, or from none where one is used up, and then
// says how long that stays so.
func (s *Store) Spend(ctx context.Context, budgets ...identity.Budget) (ok bool, retryAfter time.Duration, err error) {
	spend := func(ctx context.Context, tx querier) error {
		for _, b := range budgets {
			args := []any{b.Key[:], b.Quotas[0].Most, b.Quotas[0].Within, b.Quotas[1].Most, b.Quotas[1].Within}
			var spent bool
			err := tx.QueryRow(ctx, spendSQL, args...).Scan(&spent)
			if errors.Is(err, pgx.ErrNoRows) {
				var seconds float64
				if err := tx.QueryRow(ctx, spentSQL, args...).Scan(&seconds); err != nil && !errors.Is(err, pgx.ErrNoRows) {
					return err
				}
				retryAfter = time.Duration(max(seconds, 0) * float64(time.Second))
				return refusal{errSpent}
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if len(budgets) == 1 {
		err = s.write(ctx, querySpend, func(ctx context.Context) error { return spend(ctx, s.pool) })
	} else {
		err = s.change(ctx, querySpend, "spending", func(tx pgx.Tx) error { return spend(ctx, tx) })
	}
	switch {
	case errors.Is(err, errSpent):
		return false, retryAfter, nil
	case err != nil:
		return false, 0, fmt.Errorf("counting towards a limit: %w", err)
	default:
		return true, 0, nil
	}
}

// Refund gives back what Spend took, after something that was no fault of whoever
// asked.
func (s *Store) Refund(ctx context.Context, keys ...identity.ThrottleKey) error {
	return s.write(ctx, queryRefund, func(ctx context.Context) error {
		for _, key := range keys {
			_, err := s.pool.Exec(ctx, `UPDATE login_throttle SET marks = marks[:cardinality(marks) - 1] WHERE key = $1`, key[:])
			if err != nil {
				return fmt.Errorf("giving back to a limit: %w", err)
			}
		}
		return nil
	})
}

// UnlockUser forgets all failures about a user, on an operator's word, and says
// whether there were any.
func (s *Store) UnlockUser(ctx context.Context, user identity.UserID) (bool, error) {
	unlocked := false
	err := s.change(ctx, queryUnlockUser, "unlocking a user", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, unlockSQL, uuidOrNull(user))
		if unlocked = tag.RowsAffected() > 0; err != nil || !unlocked {
			return err
		}
		return audit(ctx, tx, identity.Event{Name: "user.unlocked", Subject: user})
	})
	return unlocked, err
}

// unlockSQL takes the rows in the order of the others: only that of the account
// has marks.
const unlockSQL = `DELETE FROM login_throttle WHERE key IN (
	SELECT key FROM login_throttle WHERE user_id = $1 ORDER BY cardinality(marks), key FOR UPDATE)`

// SweepThrottle deletes counters that count for nothing any more and networks
// that are familiar no more, at most SweepLimit of each, and says how many.
func (s *Store) SweepThrottle(ctx context.Context, familiarFor time.Duration) (int, error) {
	swept := 0
	err := s.write(ctx, querySweepThrottle, func(ctx context.Context) error {
		counters, err := s.pool.Exec(ctx, `DELETE FROM login_throttle WHERE key IN (
			SELECT key FROM login_throttle WHERE expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED)`, SweepLimit)
		if err != nil {
			return fmt.Errorf("deleting old counters: %w", err)
		}
		networks, err := s.pool.Exec(ctx, `DELETE FROM login_known_sources WHERE (user_id, source) IN (
			SELECT user_id, source FROM login_known_sources WHERE last_success < now() - $2::interval
			 LIMIT $1 FOR UPDATE SKIP LOCKED)`, SweepLimit, familiarFor)
		if err != nil {
			return fmt.Errorf("deleting networks that were not used: %w", err)
		}
		swept = int(counters.RowsAffected() + networks.RowsAffected())
		return nil
	})
	return swept, err
}
