package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
)

// explainFlags are all that `explain` may be told.
type explainFlags struct {
	method, path, requestID string
	tokenFile               string
	noToken                 bool
	mode, roles             string
	at                      string

	decision string
	nth      int

	watch, all, fromStart bool
	reason, user, route   string

	out      format
	exitCode bool

	given map[string]bool // flags that were
	args  []string
}

const notAToken = "a token is not taken from the arguments, which every process of the machine can read; use standard input or --token-file FILE"

func newExplain(in *invocation) *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Tell how authz decides on a request, step by step",
		Long: `Tell how authz decides on a request: what was checked against what, what Envoy is
made to do, and what an HTTP, a gRPC and a grpc-web client see.

With --path the decision is made here and now, by the code, the settings, the
route table and the database of authz. The token comes from standard input or a
file, never from the arguments, which every process of the machine can read.
Nothing is counted, logged or changed, and no token, signature or email is shown.

With --decision, or --request-id alone, a line of the decision log is told, judged
again by these settings. With --watch refusals are told as they come: [FILE|-] is
the log, or standard input. The log is GATEWAY_DECISION_LOG unless it is named,
else that of 'gatehouse up'. Other text before the JSON of a line, such as the
prefix of 'docker compose logs', is passed over.

The exit code is 0 whatever was decided; with --exit-code it is 1 for a request
that would not have reached its upstream.`,
		Example: `  gatehouse explain --path /api/v1/query/chats < token.txt
  gatehouse explain --method POST --path /api/v1/ingest/upload --no-token
  gatehouse explain --request-id 5b0c1f7e-3d0e-4b51-9df4-2f6c6a1f7f5e
  gatehouse explain --watch --reason token_expired
  docker compose logs -f authz | gatehouse explain --watch -`,
		RunE: in.runs(func(ctx context.Context, args []string) error {
			f.args = args
			if err := f.validate(); err != nil {
				return err
			}
			return in.explain(ctx, f)
		}),
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		f.given = map[string]bool{}
		for _, name := range []string{"decision", "path", "request-id", "nth"} {
			f.given[name] = cmd.Flags().Changed(name)
		}
		switch {
		case len(args) == 0:
			return nil
		case !f.watch, tokenLike(args[0]):
			return errors.New(notAToken)
		case len(args) > 1:
			return takes("FILE")(cmd, args)
		}
		return nil
	}
	flags := cmd.Flags()
	flags.StringVar(&f.method, "method", "GET", "the request's `METHOD`")
	flags.StringVar(&f.path, "path", "", "the request's `PATH`; a query is cut off")
	flags.StringVar(&f.requestID, "request-id", "", "the decision with this X-Request-ID, the last of several")
	flags.StringVar(&f.tokenFile, "token-file", "", "read the token from a `FILE` instead of standard input")
	flags.BoolVar(&f.noToken, "no-token", false, "the request brings no token")
	flags.StringVar(&f.mode, "mode", "", "what a mesh says of the route instead of the table: `strict|initial|none`")
	flags.StringVar(&f.roles, "roles", "", "likewise the roles of which the route asks for one, comma-separated")
	flags.StringVar(&f.at, "at", "", "judge the token's times as of an RFC 3339 `TIME`; users are looked up as they are now")
	flags.StringVar(&f.decision, "decision", "", "tell a decision of a log, `FILE|-`, the last one unless another is named")
	flags.IntVar(&f.nth, "nth", 0, "the `N`-th decision of the log, from 1")
	flags.BoolVar(&f.watch, "watch", false, "tell refusals as they come, until interrupted")
	flags.BoolVar(&f.all, "all", false, "with --watch, allowed requests too")
	flags.BoolVar(&f.fromStart, "from-start", false, "with --watch, what the file already has too")
	flags.StringVar(&f.reason, "reason", "", "with --watch, only this reason, such as token_expired")
	flags.StringVar(&f.user, "user", "", "with --watch, only this user's `UUID`")
	flags.StringVar(&f.route, "route", "", "with --watch, only this route of the table")
	outputFlag(cmd, &f.out)
	flags.BoolVar(&f.exitCode, "exit-code", false, "end with 1 where the request does not reach its upstream")
	return cmd
}

// validate finds flags that contradict each other, which would otherwise be
// ignored without a word.
func (f *explainFlags) validate() error {
	recorded := f.given["decision"] || f.given["request-id"] && !f.given["path"]
	switch {
	case f.given["path"] && f.path == "":
		return misuse("--path: empty, want a path such as /api/v1/query/chats")
	case f.given["decision"] && f.decision == "":
		return misuse("--decision: empty, want a file or - for standard input")
	case f.given["request-id"] && f.requestID == "":
		return misuse("--request-id: empty")
	case !f.given["path"] && !recorded && !f.watch:
		return misuse("one of --path PATH, --decision FILE|-, --request-id ID and --watch is needed; see 'gatehouse explain --help'")
	case f.given["decision"] && (f.given["path"] || f.watch) || f.watch && f.given["path"]:
		return misuse("only one of --path, --decision and --watch can be meant")
	case f.watch && f.given["request-id"]:
		return misuse("--request-id goes with --path or --decision, not with --watch")
	case !f.watch && (f.all || f.fromStart || f.reason != "" || f.user != "" || f.route != ""):
		return misuse("--all, --from-start, --reason, --user and --route go with --watch")
	case !f.given["path"] && (f.tokenFile != "" || f.noToken || f.mode != "" || f.roles != "" || f.at != ""):
		return misuse("--token-file, --no-token, --mode, --roles and --at go with --path")
	case f.tokenFile != "" && f.noToken:
		return misuse("--token-file and --no-token contradict each other")
	case f.given["nth"] && (!recorded || f.nth < 1):
		return misuse("--nth goes with --decision and counts from 1")
	case f.given["nth"] && f.given["request-id"]:
		return misuse("--nth and --request-id contradict each other")
	case f.watch && f.exitCode:
		return misuse("--exit-code does not go with --watch")
	}
	return nil
}

func (in *invocation) explain(ctx context.Context, f explainFlags) error {
	var (
		told explanationView
		err  error
	)
	switch {
	case f.watch:
		return in.watchDecisions(ctx, f)
	case f.given["path"]:
		told, err = in.explainRequest(ctx, f)
	default:
		told, err = in.explainRecorded(ctx, f)
	}
	if err != nil {
		return err
	}
	if f.out == formatJSON {
		err = writeJSON(in.stdout, told)
	} else {
		err = write(in.stdout, told.text())
	}
	if err == nil && f.exitCode && !told.ReachesUpstream {
		err = errReported
	}
	return err
}

// instant is the time of --at, or now.
func instant(at string) (time.Time, error) {
	if at == "" {
		return time.Now(), nil
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return t, misuse("--at: not an RFC 3339 time, such as 2031-05-17T10:00:00Z")
	}
	return t, nil
}
