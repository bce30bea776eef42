package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/cmd/internal/authzd"
	"github.com/atenex/gatehouse/cmd/internal/routing"
	"github.com/atenex/gatehouse/cmd/internal/wiring"
	"github.com/atenex/gatehouse/envoy/routes"
	"github.com/atenex/gatehouse/internal/config"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

func newReplay(in *invocation) *cobra.Command {
	var (
		changes  string
		limit    int
		out      format
		exitZero bool
	)
	cmd := &cobra.Command{
		Use:   "replay LOG --config NEW",
		Short: "Say which recorded decisions would be others under new settings",
		Long: `Say which decisions of a log would be others under new settings or another route
table, before they are put in force.

LOG is a decision log, or - for standard input. NEW is a route table (prefix,
explicit or a file), or a file of settings, written like .env, that names only
those that change; an empty one is unset. The rest is as the settings of this
command are: run it where authz runs, or with its settings.

Each decision is judged as of its own time, by what was recorded of the token and
the user. What depends on something else, such as a signature under another key,
is undecidable and said to be. Nobody is asked, and nothing is changed.

The exit code is 0 if no decision changes, 1 if one does (0 with --exit-zero) and
2 for wrong use, wrong settings included.`,
		Example: `  gatehouse replay decisions.jsonl --config routes.yaml
  echo GATEWAY_COMPANY_CHECK=off > new.env && gatehouse replay decisions.jsonl --config new.env
  kubectl logs deploy/gatehouse-authz | gatehouse replay - --config new.env --output json`,
		Args: takes("LOG"),
		RunE: in.runs(func(ctx context.Context, args []string) error {
			if limit < 0 {
				return misuse("--limit %d: must not be negative", limit)
			}
			if changes == "" {
				return misuse("--config NEW is needed: a file of settings or a route table")
			}
			r, err := in.newRehearsal(changes, limit)
			if err != nil {
				return err
			}
			log, err := in.openLog(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = log.Close() }()
			if r.view.Damaged, err = eachDecision(ctx, log, r.take); err != nil {
				return err
			}
			if out == formatJSON {
				err = writeJSON(in.stdout, r.finished())
			} else {
				err = write(in.stdout, r.finished().text())
			}
			if err == nil && r.view.Changed > 0 && !exitZero {
				err = errReported
			}
			return err
		}),
	}
	cmd.Flags().StringVar(&changes, "config", "", "what would be `NEW`: a file of settings, or a route table")
	cmd.Flags().IntVar(&limit, "limit", 20, "how many changed decisions to list; all are counted")
	outputFlag(cmd, &out)
	cmd.Flags().BoolVar(&exitZero, "exit-zero", false, "end with 0 though decisions change")
	return cmd
}

// rehearsal judges one decision after the other. What it keeps grows with the
// kinds of changes, not with the log.
type rehearsal struct {
	replayer *authz.Replayer
	// recorded goes by the routes of the record instead of those of the table.
	recorded *authz.Replayer
	// before is the table that is in force; nil: it cannot be read.
	before *routes.Index
	// rerouted is set where what is new is the table.
	rerouted bool
	// index is what the shipped Envoy does with a path before authz is asked; nil: a
	// mesh that knows no routes asks about all of them.
	index *routes.Index
	limit int
	view  replayView
	kinds map[changeKind]int
	whys  map[string]int
}

// newRehearsal reads the settings with what is new on top of them.
func (in *invocation) newRehearsal(name string, limit int) (*rehearsal, error) {
	src := in.source()
	table, err := isTable(name)
	if err != nil {
		return nil, &useError{err}
	}
	if table {
		src.Environ = append(slices.Clone(src.Environ), "GATEWAY_ROUTES="+name)
	} else if src, err = config.Overlay(src, name); err != nil {
		return nil, &useError{err}
	}
	s, warnings, err := config.Load(src, config.NeedAuthz, wiring.Inspections()...)
	old, before, notInForce := config.Load(in.source(), config.NeedUp)
	_, more, _ := config.Load(in.source(), config.NeedAuthz)
	for _, w := range warnings {
		// What is no warning of the settings in force is one of the new ones.
		if !slices.Contains(before, w) && !slices.Contains(more, w) {
			in.complain("warning: " + w)
		}
	}
	if err != nil {
		return nil, &useError{err}
	}
	verifier, notes, err := verifierNow(s)
	if err != nil {
		return nil, err
	}
	routed, err := wiring.RouteTable(s.Edge.Routes)
	if err != nil {
		return nil, &useError{err}
	}
	options := authzd.Rules(s, verifier)
	options.Router = routing.New(routed)
	r := &rehearsal{limit: limit, kinds: map[changeKind]int{}, whys: map[string]int{}}
	r.view.Notes = append([]string{}, notes...)
	if s.Edge.RouteSource != config.RouteSourcePath {
		r.index = routed.Index()
	}
	r.rerouted = true
	if notInForce == nil {
		if inForce, err := wiring.RouteTable(old.Edge.Routes); err == nil {
			r.before, r.rerouted = inForce.Index(), old.Edge.Routes != s.Edge.Routes
		}
	}
	if r.replayer, err = authz.NewReplayer(options); err != nil {
		return nil, err
	}
	options.Router = nil
	r.recorded, err = authz.NewReplayer(options)
	return r, err
}

// isTable reports whether a name is that of a route table, by what is in the file.
func isTable(name string) (bool, error) {
	text, err := os.ReadFile(name)
	if err == nil {
		return routes.IsTable(text), nil
	}
	if slices.Contains(routes.Shipped(), name) {
		return true, nil
	}
	return false, fmt.Errorf("--config: %w", err)
}

// take judges one decision.
func (r *rehearsal) take(line int, d *gatehousev1.Decision) error {
	r.view.span(d.GetTime().AsTime())
	said := r.rejudged(d)
	switch said.Verdict {
	case authz.Same:
		r.view.Same++
	case authz.Undecidable:
		r.view.Undecidable++
		r.whys[said.Why]++
	case authz.Changed:
		r.view.Changed++
		kind := changeKind{from: endingView(said.From), to: endingView(said.To), route: d.GetRoute()}
		r.kinds[kind]++
		if len(r.view.Decisions) < r.limit {
			r.view.Decisions = append(r.view.Decisions, changedView{
				Line: line, Time: d.GetTime().AsTime().UTC(), RequestID: orNull(d.GetRequestId()), Route: orNull(d.GetRoute()),
				Method: d.GetMethod(), Path: d.GetPath(), UserID: orNull(d.GetUserId()), From: kind.from, To: kind.to,
			})
		}
	default:
		return errors.New("a verdict that is none of the three")
	}
	return nil
}

// byEnvoy is the outcome of what Envoy answers without asking authz.
const byEnvoy = "envoy"

// rejudged is what would become of a decision. Where the shipped Envoy would not
// have asked, authz' judgement does not matter; but where it does not by the table
// in force either, somebody else has asked, who goes by routes of its own.
func (r *rehearsal) rejudged(d *gatehousev1.Decision) authz.Replayed {
	if r.index == nil || d.GetPathAltered() {
		return r.replayer.Replay(d)
	}
	end, asked := unasked(r.index, d)
	if asked {
		return r.replayer.Replay(d)
	}
	if r.before != nil {
		if was, asked := unasked(r.before, d); !asked && (end != nil && was != nil || !r.rerouted) {
			return r.recorded.Replay(d)
		}
	}
	said := r.recorded.Replay(d)
	if end == nil {
		return authz.Replayed{
			Verdict: authz.Undecidable, From: said.From,
			Why: "the path can be read in two ways, and which route Envoy would take it for is not known here",
		}
	}
	return authz.Replayed{Verdict: authz.Changed, From: said.From, To: *end}
}

// unasked is what Envoy answers without asking authz: nil, and false, where that
// cannot be told.
func unasked(index *routes.Index, d *gatehousev1.Decision) (end *authz.Ending, asked bool) {
	route, found := index.Match(d.GetMethod(), d.GetPath())
	switch {
	case found == routes.Unknown:
		return &authz.Ending{Outcome: byEnvoy, Reason: findingNoRoute, Status: http.StatusNotFound}, false
	case found == routes.OtherMethod:
		return &authz.Ending{Outcome: byEnvoy, Reason: findingOtherMethod, Status: http.StatusMethodNotAllowed}, false
	case found == routes.Unclear:
		return nil, false
	case route.Answer != nil:
		return &authz.Ending{Outcome: byEnvoy, Reason: "fixed_answer", Status: int(route.Answer.Status)}, false
	}
	return nil, true
}
