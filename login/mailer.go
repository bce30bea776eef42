package login

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
)

// Sender delivers mail. identity.ErrMailRefused: trying again will not help. Its errors
// hold neither an address nor a word of the mail.
type Sender interface {
	Send(ctx context.Context, m identity.Mail) error
}

// OneTime makes and uses the tokens that are mailed.
type OneTime interface {
	// MakeOneTime voids the token before it. identity.ErrNotFound: there is nobody to
	// write to, or no need.
	MakeOneTime(ctx context.Context, request identity.OneTimeRequest) (identity.OneTimeToken, error)
	// OneTimeUser is whose a good token is; identity.ErrOneTimeRefused, here and below.
	OneTimeUser(ctx context.Context, purpose identity.OneTimePurpose, secret string) (identity.User, error)
	ResetPassword(ctx context.Context, secret, hash string) (user identity.UserID, ended int, err error)
	VerifyEmail(ctx context.Context, secret string) (identity.UserID, error)
}

// Mail says whether and how people are written to.
type Mail struct {
	Sender Sender // nil: nobody is, and what needs it does not exist
	Tokens OneTime
	// ResetURL and VerifyURL are where mails lead, with {token} in them.
	ResetURL, VerifyURL string
	ResetFor, VerifyFor time.Duration
	// Retries are the waits before a mail is tried once more; nil: the usual ones.
	Retries []time.Duration
}

// mailToken stands where a page's address takes the token.
const mailToken = "{token}"

const (
	// mostMails wait to be sent, or are being sent; who asks for one more is told to
	// come back.
	mostMails = 256
	// mailsAtOnce bounds what the database and the server for mail see of a flood.
	mailsAtOnce = 4
	// sendTime bounds one try.
	sendTime = 30 * time.Second
	// fullRetry is when somebody may come back who found no place, in seconds.
	fullRetry = 10
	// askTime bounds the counting of a request for mail, which is answered all the same.
	askTime = time.Second
)

// usualRetries reach past a restart of a server, and past a grey list.
func usualRetries() []time.Duration {
	return []time.Duration{2 * time.Second, 10 * time.Second, time.Minute, 5 * time.Minute}
}

// mailer sends mails beside the requests that asked for them: nothing is looked up for
// an answer, and so no answer tells who exists.
type mailer struct {
	places chan struct{} // taken by each mail that is not done with
	turns  chan struct{} // taken for each try
	hurry  chan struct{} // closed: no mail waits any more
	once   sync.Once
	under  sync.WaitGroup
}

func newMailer() *mailer {
	return &mailer{
		places: make(chan struct{}, mostMails),
		turns:  make(chan struct{}, mailsAtOnce),
		hurry:  make(chan struct{}),
	}
}

// errMailsFull is the same for everybody, like the limit itself.
func errMailsFull() error {
	p := *errOverloaded
	p.RetryAfter = fullRetry
	return &p
}

// errUncounted: the limits were asked and did not let the mail pass.
var errUncounted = errors.New("too many mails were asked for")

// letter is a mail that was asked for.
type letter struct {
	request identity.OneTimeRequest
	// owed are the limits that could not be asked yet, because the database did not
	// answer: no mail is sent before they were.
	owed  []identity.Budget
	token identity.OneTimeToken // once it was made
}

// ask has a mail sent, if the limits allow it. It looks nobody up.
//
// A database that does not answer is nothing that whoever forgot a password can help:
// the mail waits for it, and so do its limits.
func (s *Service) ask(ctx context.Context, l letter, budgets ...identity.Budget) error {
	select {
	case s.mails.places <- struct{}{}:
	default:
		return errMailsFull()
	}
	within, cancel := context.WithTimeout(ctx, askTime)
	err := s.spend(within, identity.ScopeMail, budgets...)
	cancel()
	switch {
	case err == nil:
	case errors.Is(err, errUnavailable):
		l.owed = budgets
	default:
		<-s.mails.places
		return err
	}
	s.post(ctx, l)
	return nil
}

// post sends a mail that has a place.
func (s *Service) post(ctx context.Context, l letter) {
	ctx = context.WithoutCancel(ctx)
	s.mails.under.Go(func() {
		defer func() { <-s.mails.places }()
		s.metrics.mails.WithLabelValues(string(l.request.Purpose), s.deliver(ctx, &l)).Inc()
	})
}

// greet asks somebody who has just registered to confirm the address. A user is no less
// registered without it, and can ask again.
func (s *Service) greet(ctx context.Context, user identity.UserID) {
	if s.with.Mail.Sender == nil || !s.with.Registration.Confirm {
		return
	}
	l := letter{request: s.verification(user)}
	select {
	case s.mails.places <- struct{}{}:
		s.post(ctx, l)
	default:
		s.metrics.mails.WithLabelValues(string(l.request.Purpose), mailFailed).Inc()
		s.unsent(ctx, slog.LevelError, l, 0, errors.New("too many wait"))
	}
}

// How a mail ended, as the metrics call it.
const (
	mailSent      = "sent"
	mailRefused   = "refused"   // for good, by the server
	mailFailed    = "failed"    // after the last try
	mailThrottled = "throttled" // found out late, after the database was away
	mailUnneeded  = "unneeded"  // nobody active has the address, or it is verified
)

func mailResults() []string {
	return []string{mailSent, mailRefused, mailFailed, mailThrottled, mailUnneeded}
}

// deliver tries until the mail is sent or given up, and says how it ended.
func (s *Service) deliver(ctx context.Context, l *letter) string {
	waits := s.with.Mail.Retries
	if waits == nil {
		waits = usualRetries()
	}
	for try := 0; ; try++ {
		// Before the try: what is told to hurry during one is tried once more.
		hurried := s.mails.hurried()
		err := s.tryMail(ctx, l)
		switch {
		case err == nil:
			return mailSent
		case errors.Is(err, identity.ErrNotFound):
			return mailUnneeded
		case errors.Is(err, errUncounted):
			return mailThrottled
		case errors.Is(err, identity.ErrMailRefused):
			s.unsent(ctx, slog.LevelWarn, *l, try+1, err)
			return mailRefused
		case try == len(waits) || hurried:
			s.unsent(ctx, slog.LevelError, *l, try+1, err)
			return mailFailed
		}
		s.mails.wait(waits[try])
	}
}

func (m *mailer) hurried() bool {
	select {
	case <-m.hurry:
		return true
	default:
		return false
	}
}

// wait lasts about that long, so that those that failed together do not all come back
// together, or until the end is near.
func (m *mailer) wait(about time.Duration) {
	timer := time.NewTimer(about - about/5 + rand.N(about/5*2+1)) //nolint:gosec // spreads tries out, no secret
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-m.hurry:
	}
}

// tryMail does what is left to do for a mail.
func (s *Service) tryMail(ctx context.Context, l *letter) error {
	s.mails.turns <- struct{}{}
	defer func() { <-s.mails.turns }()
	if l.owed != nil {
		switch err := s.spend(ctx, identity.ScopeMail, l.owed...); {
		case errors.Is(err, errUnavailable):
			return err
		case err != nil:
			return errUncounted
		}
		l.owed = nil
	}
	if l.token.Secret == "" {
		within, cancel := context.WithTimeout(ctx, storeTime)
		defer cancel()
		var err error
		if l.token, err = s.with.Mail.Tokens.MakeOneTime(within, l.request); err != nil {
			return err
		}
	}
	within, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	return s.with.Mail.Sender.Send(within, s.compose(l))
}

// unsent logs what became of a mail, without a word of what an error might repeat.
func (s *Service) unsent(ctx context.Context, level slog.Level, l letter, tries int, why error) {
	text := why.Error()
	for _, hidden := range []string{l.token.Secret, l.token.Email, l.request.Email} {
		if hidden != "" {
			text = strings.ReplaceAll(text, hidden, "[redacted]")
		}
	}
	attrs := []slog.Attr{slog.String("purpose", string(l.request.Purpose)), slog.Int("tries", tries), slog.String("error", text)}
	user := l.token.User
	if user.IsZero() {
		user = l.request.User
	}
	if !user.IsZero() {
		attrs = append(attrs, slog.String("user_id", user.String()))
	}
	s.with.Logger.LogAttrs(ctx, level, "mail not sent", attrs...)
}

// Hurry has mails that wait to be tried once more tried at once, for the last time. It
// is for the time in which a service is drained.
func (s *Service) Hurry() { s.mails.once.Do(func() { close(s.mails.hurry) }) }

// Flush hurries, and returns when no mail is left or ctx ends.
func (s *Service) Flush(ctx context.Context) {
	s.Hurry()
	done := make(chan struct{})
	go func() {
		s.mails.under.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.with.Logger.LogAttrs(ctx, slog.LevelError, "mails were given up at the end", slog.Int("count", len(s.mails.places)))
	}
}
