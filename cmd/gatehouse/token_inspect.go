package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
)

// inspectionView is a token laid open. The signature is no part of it: what is
// printed here can be pasted into a ticket.
type inspectionView struct {
	Header json.RawMessage `json:"header"`
	Claims json.RawMessage `json:"claims"`
	// Verdict is "accepted", "refused" or "not judged".
	Verdict string `json:"verdict"`
	// Issuer is whose the token was taken for, where GATEWAY_ISSUERS_FILE names others:
	// own, or a name of the file.
	Issuer  *string      `json:"issuer,omitempty"`
	Refusal *refusalView `json:"refusal"`
	// Note says why a token was not judged.
	Note *string `json:"note"`
}

type refusalView struct {
	Reason string `json:"reason"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func newTokenInspect(in *invocation) *cobra.Command {
	var (
		out  format
		file string
	)
	cmd := &cobra.Command{
		Use:   "inspect",
		Short: "Show what a token says, and whether its signature and dates hold",
		Long: `Show what a token says, and whether its signature and dates hold.

The token is read from standard input or from a file, never from the arguments,
which every process of the machine can read. The verdict is of the token alone,
under the current settings; whether the user, the session and the company still
stand is for authz and its database to say.`,
		Example: `  gatehouse token inspect < token.txt
  gatehouse token inspect --file token.txt --output json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errors.New("a token is not taken from the arguments, which every process of the machine can read; use standard input or --file FILE")
			}
			return nil
		},
		RunE: in.runs(func(ctx context.Context, _ []string) error {
			s, err := in.settings(config.NeedUp)
			if err != nil {
				return err
			}
			raw, err := in.readToken(ctx, file)
			if err != nil {
				return err
			}
			view, err := inspect(raw, s, time.Now())
			if err != nil {
				return err
			}
			if out == formatJSON {
				return writeJSON(in.stdout, view)
			}
			return writeInspection(in, view)
		}),
	}
	outputFlag(cmd, &out)
	cmd.Flags().StringVar(&file, "file", "", "read the token from a `FILE`")
	return cmd
}

func (in *invocation) readToken(ctx context.Context, file string) (raw string, err error) {
	tty, terminal := asTerminal(in.stdin)
	switch {
	case file != "":
		raw, err = readSecretFile(file, "the token")
	case terminal:
		raw, err = ask(ctx, tty, in.stderr, "Token: ")
	default:
		raw, err = readSecret(in.stdin, "the token")
	}
	if err != nil {
		return "", err
	}
	// People paste what they find in a request.
	raw = strings.TrimSpace(raw)
	if scheme, rest, found := strings.Cut(raw, " "); found && strings.EqualFold(scheme, "bearer") {
		raw = strings.TrimSpace(rest)
	}
	if raw == "" {
		return "", misuse("no token was given")
	}
	return raw, nil
}

func inspect(raw string, s *config.Settings, now time.Time) (inspectionView, error) {
	verifier, why := newVerifier(s)
	got, err := token.Inspect(raw, verifier, now)
	if err != nil {
		return inspectionView{}, err
	}
	view := inspectionView{Header: got.Header, Claims: got.Claims, Verdict: "accepted"}
	if got.Judged && s.Tokens.IssuersFile != "" {
		view.Issuer = orNull(got.From)
	}
	switch {
	case !got.Judged:
		view.Verdict = "not judged"
		view.Note = orNull(why.Error())
	case got.Refusal != nil:
		view.refuse(problem.From(got.Refusal))
	case legacyRefused(s.Tokens.LegacyUntil, got, now):
		view.refuse(problem.TokenRevoked)
	}
	return view, nil
}

// legacyRefused reports that the time of tokens that name no key, or of those of an
// issuer, is over.
func legacyRefused(until time.Time, got token.Inspection, now time.Time) bool {
	return got.Credential.Outdated(until, now)
}

func (v *inspectionView) refuse(p *problem.Problem) {
	v.Verdict = "refused"
	v.Refusal = &refusalView{Reason: p.Reason, Status: p.Status, Detail: p.Detail}
}

func writeInspection(in *invocation, v inspectionView) error {
	verdict := v.Verdict
	switch {
	case v.Refusal != nil:
		verdict += fmt.Sprintf(": %s (%s, %d)", v.Refusal.Detail, v.Refusal.Reason, v.Refusal.Status)
	case v.Note != nil:
		verdict += ": " + *v.Note
	}
	taken := ""
	if v.Issuer != nil {
		taken = "issuer:  " + *v.Issuer + "\n"
	}
	return write(in.stdout, fmt.Appendf(nil, "header:  %s\nclaims:  %s\n%sverdict: %s\n", v.Header, v.Claims, taken, printable(verdict)))
}
