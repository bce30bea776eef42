package login

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
)

// The length of a name, in characters.
const (
	shortestName = 2
	longestName  = 200
)

// welcomeTime bounds what is done for a user after it was made.
const welcomeTime = 5 * time.Second

// Registration says whether and how strangers become users.
type Registration struct {
	Registrar Registrar // nil: they do not
	// Company is the default one; zero: that of CompanyName, if there is one.
	Company     identity.CompanyID
	CompanyName string
	// Conceal answers an address that is taken like a new one.
	Conceal bool
	// Confirm asks those who register to confirm their address, where there is mail.
	// It is for a Registrar that makes users among our own people.
	Confirm bool
}

// registered is the answer (contract section 8).
type registered struct {
	Message string `json:"message"`
	UserID  string `json:"user_id"`
}

// register is POST /api/v1/auth/register. What a client says beyond the four
// members that are read (a role, a company, an id) is not looked at. An invitation
// opens no registration that is off.
func (s *Service) register(ctx context.Context, x *exchange) (answer, error) {
	how := s.with.Registration
	if how.Registrar == nil {
		return answer{}, errRegistrationOff
	}
	body, err := x.readBody()
	if err != nil {
		return answer{}, err
	}
	given, err := s.readRegistration(body)
	if err != nil {
		return answer{}, err
	}
	source := s.key("register", "", cut(x.source, 32, 64))
	everybody := s.key("register", "all", netip.Prefix{})
	err = s.spend(ctx, identity.ScopeRegister,
		identity.Budget{Key: source, Quotas: s.with.Limits.RegisterSource},
		identity.Budget{Key: everybody, Quotas: [2]identity.Quota{s.with.Limits.Register}})
	if err != nil {
		return answer{}, err
	}
	made, err := s.enroll(ctx, given)
	if err != nil {
		if p := refusal(err); p.IsFault() || p == errBusy || p.Reason == errNoDefaultCompany.Reason {
			s.refund(ctx, source, everybody)
		}
		return answer{}, err
	}
	x.user = made.User
	done := registered{
		Message: "Registration successful. Please check your email for confirmation.",
		UserID:  made.User.String(),
	}
	return answer{status: http.StatusCreated, result: "registered", body: done}, nil
}

// enroll makes the user, or seems to.
func (s *Service) enroll(ctx context.Context, given identity.Registration) (identity.Registered, error) {
	how := s.with.Registration
	var err error
	if given.InvitationToken == "" {
		if given.Company, err = s.companyForNew(ctx); err != nil {
			return identity.Registered{}, err
		}
	}
	made, even, err := how.Registrar.Register(ctx, given)
	taken := errors.Is(err, identity.ErrEmailTaken)
	switch {
	case errors.Is(err, identity.ErrJoinRefused):
		// Concealed or not: what was asked is whether a secret is good, and of the
		// address it says nothing.
		waitUntil(ctx, even)
		return identity.Registered{}, errJoinRefused
	case taken && how.Conceal:
		s.metrics.concealed.Inc()
		if made, err = nobody(); err != nil {
			return identity.Registered{}, err
		}
	case taken:
		return identity.Registered{}, errEmailTaken
	case err != nil:
		return identity.Registered{}, unregistered(err)
	}
	if !taken && !made.Recorded {
		s.note(ctx, identity.Event{Name: "user.registered", Actor: made.User, Subject: made.User, Company: given.Company})
	}
	if !how.Conceal {
		s.welcome(ctx, made, given.Email)
		return made, nil
	}
	// Beside the answer, whose time would tell that there is something to do.
	s.welcomes.Go(func() {
		if !taken {
			s.welcome(ctx, made, given.Email)
		}
	})
	waitUntil(ctx, even)
	return made, nil
}

// welcome does what is left to do for a new user. It is no fault of the user's if
// that fails, and a second registration would not mend it: an operator must know.
func (s *Service) welcome(ctx context.Context, made identity.Registered, email string) {
	// A client that hangs up leaves a whole user behind all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), welcomeTime)
	defer cancel()
	s.greet(ctx, made.User)
	mail, profile := s.with.Registration.Registrar.Welcome(ctx, made, email)
	for step, err := range map[string]error{stepMail: mail, stepProfile: profile} {
		if err == nil {
			continue
		}
		s.metrics.welcomes.WithLabelValues(step).Inc()
		s.with.Logger.LogAttrs(ctx, slog.LevelError, "a new user was not welcomed in full",
			slog.String("step", step), slog.String("user_id", made.User.String()), slog.String("error", err.Error()))
	}
}

// The steps of a welcome, as metrics and the log call them.
const (
	stepMail    = "mail"
	stepProfile = "profile"
)

// Wait returns when nothing is left to be done beside the requests that were
// answered.
func (s *Service) Wait() { s.welcomes.Wait() }

// nobody is a user that does not exist.
func nobody() (identity.Registered, error) {
	var id identity.UserID
	if _, err := rand.Read(id[:]); err != nil {
		return identity.Registered{}, err
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // a UUID of version 4, like others
	return identity.Registered{User: id}, nil
}

// companyForNew is the company of those who register.
func (s *Service) companyForNew(ctx context.Context) (identity.CompanyID, error) {
	how := s.with.Registration
	if !how.Company.IsZero() || how.CompanyName == "" {
		return how.Company, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	company, err := how.Registrar.CompanyByName(ctx, how.CompanyName)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		s.with.Logger.LogAttrs(ctx, slog.LevelError, "the default company was not found by its name",
			slog.String("company_name", how.CompanyName), slog.String("error", err.Error()))
		p := *errNoDefaultCompany
		p.Detail = "Required default company configuration ('" + how.CompanyName + "') not found."
		return company, &p
	case err != nil:
		return company, unregistered(err)
	}
	return company, nil
}

// refund gives back what a registration has cost that failed by no fault of the
// client's.
func (s *Service) refund(ctx context.Context, keys ...identity.ThrottleKey) {
	if s.with.Unthrottled {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	if err := s.with.Budgets.Refund(ctx, keys...); err != nil {
		s.with.Logger.LogAttrs(ctx, slog.LevelWarn, "a registration that failed counts all the same", slog.String("error", err.Error()))
	}
}

// unregistered is the refusal when no user was made.
func unregistered(err error) error {
	var weak *identity.WeakPasswordError
	var wrong faults
	switch {
	case errors.As(err, &weak):
		msg := "Value error, the password is too weak"
		if reasons := weakness(weak.Reasons); reasons != "" {
			msg += ": " + reasons
		}
		wrong.add("password", "value_error", msg)
		return wrong.err()
	case errors.Is(err, password.ErrTooLong):
		wrong.newPassword("password", err)
		return wrong.err()
	case errors.Is(err, identity.ErrRegistrationData):
		return errRegistrationData.Because(err)
	case errors.Is(err, identity.ErrRegistrationBusy):
		return errBusy
	case errors.Is(err, identity.ErrRegistrationBroken):
		return errInternal.Because(err)
	default:
		return unanswered(err)
	}
}

// weakness repeats the reasons that are known; others may hold anything.
func weakness(reasons []string) string {
	known := slices.DeleteFunc(slices.Clone(reasons), func(r string) bool {
		return r != "length" && r != "characters" && r != "pwned"
	})
	return strings.Join(known, ", ")
}

func (s *Service) readRegistration(body []byte) (identity.Registration, error) {
	m, err := decode(body, "email", "password", "name", "invitation_token")
	if err != nil {
		return identity.Registration{}, err
	}
	if m == nil {
		return identity.Registration{}, wrongBody("missing", "Field required")
	}
	var wrong faults
	email, ok := m.required("email", &wrong)
	if ok && identity.CheckEmail(email) != nil {
		wrong.add("email", "value_error", "value is not a valid email address")
	}
	name, named := m.optional("name", "string_type", "Input should be a valid string", &wrong)
	if named {
		switch n := utf8.RuneCountInString(name); {
		case n < shortestName:
			wrong.add("name", "string_too_short", "String should have at least 2 characters")
		case n > longestName:
			wrong.add("name", "string_too_long", "String should have at most 200 characters")
		case strings.ContainsFunc(name, unicode.IsControl):
			wrong.add("name", "value_error", "Value error, a control character is not allowed")
		}
	}
	words, ok := m.required("password", &wrong)
	if ok {
		wrong.newPassword("password", password.CheckNew(words, email, name, s.with.ProjectName))
	}
	invitation := m.invitation(&wrong)
	return identity.Registration{Email: email, Password: words, FullName: name, InvitationToken: invitation}, wrong.err()
}
