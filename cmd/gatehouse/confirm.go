package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/postgres"
)

// confirmation is how a command that changed who may pass waits until that has
// been heard.
type confirmation struct{ wait time.Duration }

func (c *confirmation) flag(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&c.wait, "wait", 5*time.Second,
		"how long to wait for every authz replica to confirm; 0: do not")
	if cmd.Long == "" {
		cmd.Long = cmd.Short + "."
	}
	cmd.Long += "\n\n" + confirmationHelp
}

const confirmationHelp = `The change is committed first. Then the command waits until every authz replica
that remembers users has confirmed that it heard of it, and says how many did; a
replica that asks PostgreSQL on every check has nothing to confirm. The exit code
is 1 if one did not confirm in time, although the change is committed and stays.
Running the command again asks again.`

func (c *confirmation) check() error {
	if c.wait < 0 {
		return misuse("--wait %s: must not be less than nothing", c.wait)
	}
	return nil
}

// done says what was just committed, and then what the replicas say of it. Its
// errors say that it was committed.
func (c *confirmation) done(ctx context.Context, in *invocation, store *postgres.Store, what string) error {
	if err := write(in.stdout, []byte(what+"\n")); err != nil || c.wait == 0 {
		return err
	}
	got, err := store.Confirm(ctx, c.wait)
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted; the change is committed, but whether every authz replica has heard of it is not known")
	case err != nil:
		return fmt.Errorf("the change is committed, but whether every authz replica has heard of it is not known: %w", err)
	}
	total := len(got.Confirmed) + len(got.Waiting)
	line := fmt.Sprintf("confirmed by %d of %d authz replicas after %d ms\n", len(got.Confirmed), total, got.Took.Milliseconds())
	if total == 0 {
		line = "nothing to confirm: no authz replica says that it remembers users\n"
	}
	for _, r := range got.Gone {
		line += fmt.Sprintf("not waited for: %s remembers nothing any more\n", printable(r.Name))
	}
	if err := write(in.stdout, []byte(line)); err != nil || len(got.Waiting) == 0 {
		return err
	}
	return unconfirmed(got.Waiting)
}

// unconfirmed says which replicas did not answer, and what that means.
func unconfirmed(waiting []postgres.Replica) error {
	var text strings.Builder
	text.WriteString("the change is committed, but not confirmed in time by:\n")
	longest := time.Duration(0)
	for _, r := range waiting {
		fmt.Fprintf(&text, "  %s (last heard of %s ago)\n", printable(r.Name), r.Silence.Round(time.Millisecond))
		longest = max(longest, r.ProofOfLife)
	}
	fmt.Fprintf(&text, "a replica that hears no changes asks PostgreSQL on every check after %s at most, and so enforces this one all the same; "+
		"to ask again, run the same command again", longest)
	return errors.New(text.String())
}
