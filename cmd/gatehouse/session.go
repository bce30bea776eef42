package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

func newSession(in *invocation) *cobra.Command {
	return group(&cobra.Command{
		Use:   "session",
		Short: "List and end the logins of a user",
	},
		newSessionList(in),
		newSessionEnd(in),
	)
}

type sessionView struct {
	ID        string  `json:"id"`
	CreatedAt string  `json:"created_at"`
	NotAfter  string  `json:"not_after"`
	Live      bool    `json:"live"`
	EndedAt   *string `json:"ended_at"`
	EndReason *string `json:"end_reason"`
	Address   *string `json:"ip"`
	UserAgent *string `json:"user_agent"`
}

func viewSessions(all []identity.SessionRecord) []sessionView {
	views := make([]sessionView, 0, len(all))
	for _, s := range all {
		v := sessionView{
			ID: s.ID.String(), CreatedAt: stamp(s.CreatedAt), NotAfter: stamp(s.NotAfter), Live: s.Live,
			EndedAt: orNull(stamp(s.EndedAt)), EndReason: orNull(s.EndReason), UserAgent: orNull(s.Client.UserAgent),
		}
		if s.Client.Address.IsValid() {
			v.Address = orNull(s.Client.Address.String())
		}
		views = append(views, v)
	}
	return views
}

// describe is a live session in one cell.
func (v sessionView) describe() string {
	from := ""
	if v.Address != nil {
		from = " from " + *v.Address
	}
	return fmt.Sprintf("%s%s (%s, until %s)", v.CreatedAt, from, v.ID, v.NotAfter)
}

func newSessionList(in *invocation) *cobra.Command {
	var (
		out format
		all bool
	)
	cmd := &cobra.Command{
		Use:   "list EMAIL|ID",
		Short: "List the logins of a user, the newest first",
		Long: fmt.Sprintf(`List the logins of a user, the newest first; at most %d.

Tokens without a session ('gatehouse token mint', the replaced gateways) are in
no list: nothing is kept of them.`, postgres.MostSessions),
		Example: "  gatehouse session list ada@example.com --all --output json",
		Args:    takes("EMAIL|ID"),
		RunE: in.runs(func(ctx context.Context, args []string) error {
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				u, err := findUser(ctx, store, args[0])
				if err != nil {
					return err
				}
				found, err := store.ListSessions(ctx, u.ID, all)
				if err != nil {
					return err
				}
				views := viewSessions(found)
				if out == formatJSON {
					return writeJSON(in.stdout, views)
				}
				tab := newTable("ID", "BEGUN", "UNTIL", "LIVE", "ENDED", "ADDRESS", "CLIENT")
				for _, v := range views {
					tab.row(v.ID, v.CreatedAt, v.NotAfter, yesNo(v.Live), text(v.EndReason), text(v.Address), text(v.UserAgent))
				}
				return tab.writeTo(in.stdout)
			})
		}),
	}
	outputFlag(cmd, &out)
	cmd.Flags().BoolVar(&all, "all", false, "those too that are over")
	return cmd
}

func newSessionEnd(in *invocation) *cobra.Command {
	var all, apply bool
	cmd := &cobra.Command{
		Use:   "end EMAIL|ID SESSION",
		Short: "End a login of a user, or all of them, at once",
		Long: `End a login of a user, at once: no token of it is accepted any more.

With --all instead of SESSION, all logins are ended; what that would be is printed
first, and done with --apply. Tokens without a session are left alone; to end those
too, see 'gatehouse user revoke'.`,
		Example: `  gatehouse session end ada@example.com 5d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11
  gatehouse session end ada@example.com --all --apply`,
		Args: func(cmd *cobra.Command, args []string) error {
			if all {
				return takes("EMAIL|ID")(cmd, args)
			}
			return takes("EMAIL|ID", "SESSION")(cmd, args)
		},
		RunE: in.runs(func(ctx context.Context, args []string) error {
			if all {
				return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
					return in.endAll(ctx, store, args[0], apply)
				})
			}
			id, err := identity.ParseSessionID(args[1])
			if err != nil {
				return misuse("SESSION %q: %w", args[1], err)
			}
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				u, err := findUser(ctx, store, args[0])
				if err != nil {
					return err
				}
				return in.endSession(ctx, store, u.ID, id)
			})
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "every login of the user")
	cmd.Flags().BoolVar(&apply, "apply", false, "do what --all would do")
	return cmd
}

func (in *invocation) endSession(ctx context.Context, store *postgres.Store, user identity.UserID, id identity.SessionID) error {
	ended, err := store.EndSession(ctx, user, id)
	if errors.Is(err, identity.ErrNotFound) {
		return fmt.Errorf("user %s has no session %s", user, id)
	}
	if err != nil {
		return err
	}
	what := "had ended already"
	if ended {
		what = "ended"
	}
	return write(in.stdout, fmt.Appendf(nil, "session %s of %s %s\n", id, user, what))
}

func (in *invocation) endAll(ctx context.Context, store *postgres.Store, name string, apply bool) error {
	u, err := findUser(ctx, store, name)
	if err != nil {
		return err
	}
	if !apply {
		live, err := store.ListSessions(ctx, u.ID, false)
		if err != nil {
			return err
		}
		for _, v := range viewSessions(live) {
			if err := write(in.stdout, fmt.Appendf(nil, "would end %s\n", printable(v.describe()))); err != nil {
				return err
			}
		}
		return write(in.stdout, fmt.Appendf(nil, "%s %s: %s would end; nothing was changed, say --apply to do it\n",
			u.ID, printable(u.Email), sessions(len(live))))
	}
	ended, err := store.EndAllSessions(ctx, u.ID)
	if err != nil {
		return err
	}
	return write(in.stdout, fmt.Appendf(nil, "%s %s: %s ended\n", u.ID, printable(u.Email), sessions(ended)))
}
