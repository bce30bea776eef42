package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

// appName is what the database's administrator sees of us.
const appName = "gatehouse"

// withStore runs work on the database of the settings.
func (in *invocation) withStore(ctx context.Context, work func(context.Context, *postgres.Store) error) error {
	s, err := in.settings(config.NeedDatabase)
	if err != nil {
		return err
	}
	return in.withStoreOf(ctx, s, work)
}

// withStoreOf does not start the work before the database answers, so that
// nobody types a password in vain.
func (in *invocation) withStoreOf(ctx context.Context, s *config.Settings, work func(context.Context, *postgres.Store) error) error {
	// One connection: a command asks one thing at a time.
	store, err := postgres.Open(ctx, postgres.Options{URL: s.Database.URL.Reveal(), MaxConns: 1, AppName: appName})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Ping(ctx); err != nil {
		return err
	}
	if err := work(identity.WithOrigin(ctx, identity.Origin{Operator: operator()}), store); err != nil {
		return unmigrated(ctx, s, err)
	}
	return nil
}

// operator is who runs this command, for the audit log: the name that the
// operating system has for them, or their number where it has none.
func operator() string {
	if who, err := user.Current(); err == nil && who.Username != "" {
		return who.Username
	}
	return "uid " + strconv.Itoa(os.Getuid())
}

// unmigrated adds to an error what is most often behind it: tables that are not
// there yet.
func unmigrated(ctx context.Context, s *config.Settings, err error) error {
	status, statusErr := postgres.Status(ctx, s.Database.URL.Reveal())
	if statusErr != nil || len(status.Pending) == 0 {
		return err
	}
	return fmt.Errorf("%w; the database is at version %d of %d: run 'gatehouse migrate'", err, status.Version, status.Latest)
}
