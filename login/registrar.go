package login

import (
	"context"
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
	// follows it there, password.ErrTooLong, password.ErrBusy). An answer that
	// comes before even does not tell one from the other.
	Register(ctx context.Context, r identity.Registration) (made identity.Registered, even time.Time, err error)
	// Welcome does what is left to do for a user that was made. It stays made,
	// whatever comes of that.
	Welcome(ctx context.Context, made identity.Registered, email string) (mail, profile error)
}

// People is where users are kept.
type People interface {
	CompanyByName(ctx context.Context, name string) (identity.CompanyID, error)
	RegisterUser(ctx context.Context, account identity.Account) (identity.UserID, error)
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
	})
	return identity.Registered{User: id, Confirmed: true}, even, err
}

// Welcome has nothing to do.
func (registrar) Welcome(context.Context, identity.Registered, string) (mail, profile error) {
	return nil, nil
}
