package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/atenex/gatehouse/internal/identity"
)

const (
	// noticeChannel is what the triggers notify.
	noticeChannel = "gatehouse"

	// DefaultProofOfLife is how long silence is trusted.
	DefaultProofOfLife = time.Second
	// longestBeat is the pause between two heartbeats at most.
	longestBeat = 250 * time.Millisecond
	// echoWait bounds the wait for a notice to come back that another connection
	// sent at the start.
	echoWait = time.Second

	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// The reasons for which notices are not to be relied on. Their texts go to the
// operator's log.
var (
	errPooled = errors.New("notices do not come back: the database URL leads through a proxy that pools transactions or " +
		"statements, such as PgBouncer; authz needs a direct connection, or one that is pooled by session")
	errReplica  = errors.New("the server is a replica in recovery, and only the primary will do")
	errDisarmed = errors.New("the database does not announce its changes: a trigger of ours is missing or not ENABLE ALWAYS, or its " +
		"function is altered (gatehouse doctor names it, gatehouse migrate puts it back)")
	errSilent = errors.New("the database has not answered in time")
)

// Sink takes what a Listener hears. Calls come one after the other, from one
// goroutine.
type Sink interface {
	// User says that a user's row or memberships are not what they were.
	User(identity.UserID)
	// Session says so of a session.
	Session(identity.SessionID)
	// Company says so of a company.
	Company(identity.CompanyID)
	// Flush says so of everything.
	Flush()
	// Alive says that every change committed before at has been told.
	Alive(at time.Time)
	// Lost says that changes are not heard until the next Alive, which comes after
	// a Flush. The reason is for people, and the same as long as the cause is.
	Lost(reason string)
}

// ListenerOptions are the choices of a Listener. URL and Sink are needed.
type ListenerOptions struct {
	// URL is a secret, as in Options. It must lead to the primary without a proxy
	// that pools transactions; one that does is found out.
	URL string
	// AppName is what pg_stat_activity shows.
	AppName string
	// ProofOfLife is how long the sink goes on without a new Alive; zero:
	// DefaultProofOfLife. There are at least three heartbeats in it.
	ProofOfLife time.Duration
	Sink        Sink
	Clock       func() time.Time // nil: time.Now
	// Replica is the name, for people, under which this process confirms what it
	// has heard (see Store.Confirm); empty: it does not.
	Replica string
	// Logger hears, once, that this cannot be written; nil: nobody does.
	Logger *slog.Logger
}

// Listener hears on a connection of its own what is changed in the database, and
// proves all the time that it would.
type Listener struct {
	config *pgx.ConnConfig
	sink   Sink
	clock  func() time.Time
	proof  time.Duration
	beat   time.Duration
	// echo is a channel that nobody else listens on, so that heartbeats wake only
	// this process.
	echo string

	reporter *reporter // nil: nobody is told what was heard
	fence    int64     // the last one that this connection knows of

	heard string // the last payload on echo
	armed string // the triggers as the last heartbeat found them
}

// NewListener reads the options and starts nothing.
func NewListener(opts ListenerOptions) (*Listener, error) {
	pool, err := parseURL(opts.URL, opts.AppName)
	if err != nil {
		return nil, err
	}
	if opts.Sink == nil {
		return nil, errors.New("a listener needs somebody to tell")
	}
	if opts.ProofOfLife == 0 {
		opts.ProofOfLife = DefaultProofOfLife
	}
	if opts.ProofOfLife < 0 {
		return nil, errors.New("a negative proof of life")
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Listener{
		config: pool.ConnConfig,
		sink:   opts.Sink,
		clock:  opts.Clock,
		proof:  opts.ProofOfLife,
		beat:   min(longestBeat, opts.ProofOfLife/4),
		echo:   noticeChannel + "_echo_" + strings.ToLower(rand.Text()),
	}
	l.config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { l.take(n) }
	// Nothing is prepared: the few statements are plain, and a connection lives
	// either for one of them or for heartbeats.
	l.config.DefaultQueryExecMode = pgx.QueryExecModeExec
	if opts.Replica != "" {
		if l.reporter, err = newReporter(l.config, opts); err != nil {
			return nil, fmt.Errorf("naming the replica: %w", err)
		}
	}
	return l, nil
}

// Run listens until ctx ends, over any number of connections.
func (l *Listener) Run(ctx context.Context) {
	if l.reporter != nil {
		var reports sync.WaitGroup
		defer reports.Wait()
		reports.Go(func() { l.reporter.run(ctx) })
	}
	pause := firstPause
	for {
		lived, err := l.session(ctx)
		if ctx.Err() != nil {
			return
		}
		l.sink.Lost(reason(err))
		if l.reporter != nil {
			l.reporter.lost() // after the sink has taken it
		}
		if lived {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// session is the life of one connection. It ends with an error, and says whether
// there was a proof of life in it.
func (l *Listener) session(ctx context.Context) (lived bool, err error) {
	conn, err := l.dial(ctx)
	if err != nil {
		return false, err
	}
	defer l.hangUp(conn)

	if err := l.listen(ctx, conn); err != nil {
		return false, err
	}
	if err := l.echoed(ctx, conn); err != nil {
		return false, err
	}
	l.armed = ""
	for {
		fence := l.fence
		sent, err := l.prove(ctx, conn)
		if err != nil {
			return lived, err
		}
		if !lived {
			// Whatever was read before the LISTEN may be older than a change that
			// was not heard.
			l.sink.Flush()
			lived = true
		}
		l.sink.Alive(sent)
		if l.reporter != nil {
			l.reporter.alive(sent, fence)
		}
		if err := l.hear(ctx, conn, fence, sent.Add(l.beat).Sub(l.clock())); err != nil {
			return lived, err
		}
	}
}

// dial ends by itself: parseURL has set a time-out for each host.
func (l *Listener) dial(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, l.config)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", once(err))
	}
	return conn, nil
}

// hangUp does not wait for a connection that is frozen.
func (l *Listener) hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}

// listen subscribes. Every change whose commit ends later is announced to us.
func (l *Listener) listen(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, max(l.proof, echoWait))
	defer cancel()
	// A replica refuses LISTEN anyway; this says why, also through a proxy that
	// hides what stands behind it.
	var replica bool
	if err := conn.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&replica); err != nil {
		return fmt.Errorf("asking the server what it is: %w", l.late(ctx, err))
	}
	if replica {
		return errReplica
	}
	channels := []string{noticeChannel, l.echo}
	if l.reporter != nil {
		channels = append(channels, fenceChannel)
		l.fence = 0
	}
	for _, channel := range channels {
		if _, err := conn.Exec(ctx, `LISTEN `+pgx.Identifier{channel}.Sanitize()); err != nil {
			return fmt.Errorf("listening: %w", l.late(ctx, err))
		}
	}
	if l.reporter != nil {
		return l.lastFence(ctx, conn)
	}
	return nil
}

// echoed has another connection send a notice, which must reach this one while
// it does nothing. That is what a proxy that pools transactions breaks; a notice
// to oneself would come through by chance, since it may find the same server
// connection.
func (l *Listener) echoed(ctx context.Context, conn *pgx.Conn) error {
	other, err := l.dial(ctx)
	if err != nil {
		return err
	}
	defer l.hangUp(other)
	call := rand.Text()
	ctx, cancel := context.WithTimeout(ctx, echoWait)
	defer cancel()
	if _, err := other.Exec(ctx, `SELECT pg_notify($1, $2)`, l.echo, call); err != nil {
		return fmt.Errorf("sending a notice: %w", l.late(ctx, err))
	}
	// It may have come over the wrong connection, which tells it to the same ear.
	l.heard = ""
	for l.heard != call {
		if err := conn.PgConn().WaitForNotification(ctx); err != nil {
			if ctx.Err() != nil {
				return errPooled
			}
			return fmt.Errorf("waiting for a notice: %w", err)
		}
	}
	return nil
}

// beatSQL sends a notice to ourselves and looks at the triggers. PostgreSQL tells
// notices in the order of the commits, so that whoever has heard this one has
// heard of every change committed before it was sent. The second column differs
// after any change to a trigger, to its function or to the columns that it may look
// at, one that was undone again included: a trigger goes by the number of a column,
// whatever its name has become. It takes the server 0.3 ms.
const beatSQL = `
SELECT count(*) FILTER (WHERE t.tgenabled = 'A' AND d.description = ` + functionSeal + `),
       coalesce(string_agg(concat_ws(' ', t.oid, t.xmin, t.tgenabled, p.oid, p.xmin), ',' ORDER BY t.oid), '') || ' ' ||
       (SELECT md5(coalesce(string_agg(concat_ws(' ', a.attrelid, a.attnum, a.attname, a.atttypid), ',' ORDER BY a.attrelid, a.attnum), ''))
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid IN (to_regclass('users'), to_regclass('company_members'), to_regclass('sessions'), to_regclass('companies'))
           AND a.attnum > 0),
       pg_notify($1, $2)::text
  FROM pg_catalog.pg_trigger t
  JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
  LEFT JOIN pg_catalog.pg_description d ON d.objoid = p.oid AND d.classoid = 'pg_catalog.pg_proc'::regclass AND d.objsubid = 0
 WHERE t.tgrelid IN (to_regclass('users'), to_regclass('company_members'), to_regclass('sessions'), to_regclass('companies'))
   AND t.tgname = ANY ($3)`

// sealedSQL counts the triggers that are as Migrate made them, down to the names of
// the columns that they compare.
const sealedSQL = `
SELECT count(*)
  FROM pg_catalog.pg_trigger t
 WHERE t.tgrelid IN (to_regclass('users'), to_regclass('company_members'), to_regclass('sessions'), to_regclass('companies'))
   AND t.tgname = ANY ($1) AND obj_description(t.oid, 'pg_trigger') = ` + triggerSeal

// prove carries out one heartbeat and says when it was sent.
func (l *Listener) prove(ctx context.Context, conn *pgx.Conn) (sent time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.proof)
	defer cancel()
	call := rand.Text()
	sent = l.clock()
	var always int
	var armed, void string
	if err := conn.QueryRow(ctx, beatSQL, l.echo, call, announcers()).Scan(&always, &armed, &void); err != nil {
		return sent, fmt.Errorf("proving that notices are heard: %w", l.late(ctx, err))
	}
	for l.heard != call { // PostgreSQL tells it before it is ready again, a proxy may not
		if err := conn.PgConn().WaitForNotification(ctx); err != nil {
			return sent, fmt.Errorf("proving that notices are heard: %w", l.late(ctx, err))
		}
	}
	if always != len(announcers()) {
		return sent, errDisarmed
	}
	if l.armed == armed {
		return sent, nil
	}
	var sealed int
	if err := conn.QueryRow(ctx, sealedSQL, announcers()).Scan(&sealed); err != nil {
		return sent, fmt.Errorf("proving that changes are announced: %w", l.late(ctx, err))
	}
	if sealed != len(announcers()) {
		return sent, errDisarmed
	}
	if l.armed != "" {
		// For a while, rows may have been changed without a word.
		l.sink.Flush()
	}
	l.armed = armed
	return sent, nil
}

// hear waits for notices; they are told as they come in (see take). A new
// fence ends it: what comes next is a heartbeat, which finds out whether all before
// the fence was announced at all.
func (l *Listener) hear(ctx context.Context, conn *pgx.Conn, fence int64, pause time.Duration) error {
	beat, cancel := context.WithTimeout(ctx, pause)
	defer cancel()
	for l.fence == fence {
		if err := conn.PgConn().WaitForNotification(beat); err != nil {
			if beat.Err() != nil && !conn.IsClosed() {
				return nil // time for a heartbeat
			}
			return fmt.Errorf("waiting for notices: %w", err)
		}
	}
	return nil
}

// reason is err without what differs from one attempt to the next, which is the
// port at our end.
func reason(err error) string {
	var known *net.OpError
	var unreachable *pgconn.ConnectError
	if errors.As(err, &known) && !errors.As(err, &unreachable) {
		return "the connection broke: " + known.Op + ": " + known.Err.Error()
	}
	// A connection that breaks while it is made has both ends in the middle of
	// its text: "read tcp 127.0.0.1:53386->127.0.0.1:5432: ...".
	text := err.Error()
	for {
		before, after, found := strings.Cut(text, "->")
		if !found {
			return text
		}
		text = before[:strings.LastIndexByte(before, ' ')+1] + after
	}
}

// late tells an answer that did not come in time from one that is an error.
func (l *Listener) late(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errSilent
	}
	return err
}

// take tells one notice. Whatever is not understood may mean anything.
func (l *Listener) take(n *pgconn.Notification) {
	switch n.Channel {
	case l.echo:
		l.heard = n.Payload
		return
	case fenceChannel:
		if number, err := strconv.ParseInt(n.Payload, 10, 64); err == nil {
			l.fence = number
		}
		return
	case noticeChannel:
	default:
		return
	}
	kind, text, _ := strings.Cut(n.Payload, ":")
	switch kind {
	case "u":
		if id, err := identity.ParseUserID(text); err == nil {
			l.sink.User(id)
			return
		}
	case "s":
		if id, err := identity.ParseSessionID(text); err == nil {
			l.sink.Session(id)
			return
		}
	case "c":
		if id, err := identity.ParseCompanyID(text); err == nil {
			l.sink.Company(id)
			return
		}
	}
	l.sink.Flush()
}
