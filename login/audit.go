package login

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
)

const (
	// mostNotes bounds what waits to be recorded. Failures come no faster than
	// passwords can be hashed, so this is many seconds of a store that hangs.
	mostNotes = 512
	// noteTime bounds the writing of one, and of all that are left at the end.
	noteTime = 2 * time.Second
)

// note is something to be recorded, and where it came from.
type note struct {
	event  identity.Event
	origin identity.Origin
}

// noteFailure has the failed proof of a password recorded, if somebody has that
// address: what else people type there is kept nowhere. It is written beside the
// request and not within it, or the time of an answer would tell who exists.
func (s *Service) noteFailure(ctx context.Context, account identity.Account, proved bool) {
	if account.ID.IsZero() {
		return
	}
	reason := "credentials"
	if proved {
		reason = "inactive"
	}
	s.note(ctx, identity.Event{
		Name: "login.failure", Outcome: identity.Failure, Subject: account.ID, Company: account.Company,
		Details: map[string]any{"reason": reason},
	})
}

// note has an event recorded that is part of no transaction, and waits for
// nothing. What cannot be recorded is logged.
func (s *Service) note(ctx context.Context, e identity.Event) {
	select {
	case s.notes <- note{event: e, origin: identity.OriginOf(ctx)}:
	default:
		s.unrecorded(ctx, e, errors.New("too many wait"))
	}
}

// SigningKeyChanged has it recorded that tokens are signed with another key from now
// on. Each login service says so of itself.
func (s *Service) SigningKeyChanged(ctx context.Context, from, to string) {
	s.note(ctx, identity.Event{Name: "key.rotated", Details: map[string]any{"from": from, "to": to}})
}

func (s *Service) unrecorded(ctx context.Context, e identity.Event, why error) {
	s.with.Logger.LogAttrs(ctx, slog.LevelWarn, "event not recorded", slog.String("event", e.Name),
		slog.String("user_id", e.Subject.String()), slog.String("error", why.Error()))
}

// Record writes down what was noted until ctx ends, and then what is left.
func (s *Service) Record(ctx context.Context) {
	for {
		select {
		case n := <-s.notes:
			s.record(context.WithoutCancel(ctx), n)
		case <-ctx.Done():
			s.recordRest(context.WithoutCancel(ctx))
			return
		}
	}
}

func (s *Service) recordRest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, noteTime)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case n := <-s.notes:
			s.record(ctx, n)
		default:
			return
		}
	}
}

func (s *Service) record(ctx context.Context, n note) {
	ctx, cancel := context.WithTimeout(identity.WithOrigin(ctx, n.origin), noteTime)
	defer cancel()
	if err := s.with.Auditor.Audit(ctx, n.event); err != nil {
		s.unrecorded(ctx, n.event, err)
	}
}
