package login

import (
	"context"
	"log/slog"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
)

// Registrar makes users of strangers.
type Registrar interface {
	// CompanyByName finds the default company. identity.ErrNotFound: there is none,
	// or it is not the only one of that name.
	CompanyByName(ctx context.Context, name string) (identity.CompanyID, error)
	// Register makes a user, or says why not (identity.ErrEmailTaken and what
	// follows it there, password.ErrTooLong, password.ErrBusy). With the secret of an
	// invitation it uses that up, or makes no user (identity.ErrJoinRefused, whether
	// the address is taken or not). No answer that comes at even tells one of these
	// from the other.
	Register(ctx context.Context, r identity.Registration) (made identity.Registered, even time.Time, err error)
	// Welcome does what is left to do for a user that was made. It stays made,
	// whatever comes of that.
	Welcome(ctx context.Context, made identity.Registered, email string) (mail, profile error)
}

// People is where users are kept.
type People interface {
	CompanyByName(ctx context.Context, name string) (identity.CompanyID, error)
	// RegisterUser lets the user in by an invitation, where one is given.
	RegisterUser(ctx context.Context, account identity.Account, invitation string) (identity.UserID, error)
}

// RegisterAmong makes users among our own people.
func RegisterAmong(people People, passwords *password.Hasher) Registrar {
	return registrar{people, passwords}
}

type registrar struct {
	People
	passwords *password.Hasher
}

// Register hashes first, so that an address that is taken costs as much as one
// that is free.
func (r registrar) Register(ctx context.Context, given identity.Registration) (identity.Registered, time.Time, error) {
	permit, err := awaitPermit(ctx, r.passwords)
	if err != nil {
		return identity.Registered{}, time.Time{}, err
	}
	hash, err := hashPassword(ctx, permit, given.Password)
	even := permit.FailureDue()
	permit.Release()
	if err != nil {
		return identity.Registered{}, time.Time{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	id, err := r.RegisterUser(ctx, identity.Account{
		User:         identity.User{Email: given.Email, FullName: given.FullName, Company: given.Company},
		PasswordHash: hash,
	}, given.InvitationToken)
	return identity.Registered{User: id, Confirmed: true, Recorded: true}, even, err
}

// Welcome has nothing to do.
func (registrar) Welcome(context.Context, identity.Registered, string) (mail, profile error) {
	return nil, nil
}

// Redeemer uses up an invitation while somebody else makes the user, and leaves it
// open where that fails.
type Redeemer interface {
	RedeemInvitation(ctx context.Context, secret, email string,
		made func(ctx context.Context, company identity.CompanyID, role string) (identity.UserID, error)) error
}

// redeemTime bounds a registration by invitation with somebody else. A client that
// hangs up does not end it: it would leave a user whose invitation is open.
const redeemTime = 10 * time.Second

// Redeeming lets those who are invited in, where users are not made among our own
// people.
func Redeeming(elsewhere Registrar, invitations Redeemer, log *slog.Logger) Registrar {
	return redeeming{elsewhere, invitations, log}
}

type redeeming struct {
	Registrar
	invitations Redeemer
	log         *slog.Logger
}

func (r redeeming) Register(ctx context.Context, given identity.Registration) (made identity.Registered, even time.Time, err error) {
	if given.InvitationToken == "" {
		return r.Registrar.Register(ctx, given)
	}
	secret := given.InvitationToken
	given.InvitationToken = ""
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redeemTime)
	defer cancel()
	err = r.invitations.RedeemInvitation(ctx, secret, given.Email,
		func(ctx context.Context, company identity.CompanyID, role string) (identity.UserID, error) {
			var err error
			given.Company, given.Role = company, role
			made, even, err = r.Registrar.Register(ctx, given)
			return made.User, err
		})
	made.Recorded = err == nil
	if err != nil && !made.User.IsZero() {
		// The user is there and in the company. The invitation is good for nothing else:
		// it is of an address that is taken now.
		r.log.LogAttrs(ctx, slog.LevelError, "a user came by an invitation that stays open",
			slog.String("user_id", made.User.String()), slog.String("company_id", given.Company.String()), slog.String("error", err.Error()))
		err = nil
	}
	return made, even, err
}
