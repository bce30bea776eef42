package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// watchDecisions tells decisions as they come, until it is interrupted or standard
// input ends, which is no failure.
func (in *invocation) watchDecisions(ctx context.Context, f explainFlags) error {
	w := &watch{in: in, flags: f, judge: in.newJudge()}
	var name string
	if len(f.args) == 1 {
		name = f.args[0]
	} else {
		var err error
		if name, err = in.defaultLog(w.judge.settings); err != nil {
			return err
		}
	}
	if name == "-" {
		return w.stream(ctx, in.stdin)
	}
	log := &follower{name: name}
	switch err := log.open(f.fromStart); {
	case errors.Is(err, fs.ErrNotExist):
		in.complain("waiting for " + name)
	case err != nil:
		return fmt.Errorf("opening the decision log: %w", err)
	default:
		in.complain("watching " + name)
	}
	return log.run(ctx, w.line)
}

type watch struct {
	in    *invocation
	flags explainFlags
	judge *judge
}

// stream reads until the end. The reader cannot be woken; it is left behind only
// when the process ends.
func (w *watch) stream(ctx context.Context, r io.Reader) error {
	ended := make(chan error, 1)
	go func() {
		lines := newLineReader(r)
		for {
			line, err := lines.next()
			if errors.Is(err, io.EOF) {
				ended <- w.line(lines.rest())
				return
			}
			if err == nil {
				err = w.line(line)
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return nil
	}
}

// line tells what a line of the log says, if it is what is asked for.
func (w *watch) line(line []byte) error {
	d, err := parseDecision(line)
	if err != nil || !w.wanted(d) {
		return nil //nolint:nilerr // a line of another kind, or half of one
	}
	view, err := w.judge.judge(d)
	if err != nil {
		return err
	}
	if w.flags.out == formatJSON {
		text, err := json.Marshal(view)
		if err != nil {
			return fmt.Errorf("encoding the output: %w", err)
		}
		return write(w.in.stdout, append(text, '\n'))
	}
	return write(w.in.stdout, view.brief())
}

func (w *watch) wanted(d *gatehousev1.Decision) bool {
	f := w.flags
	return (f.all || outcomeOf(d) != "allow") &&
		(f.reason == "" || d.GetReason() == f.reason) &&
		(f.user == "" || strings.EqualFold(d.GetUserId(), f.user)) &&
		(f.route == "" || d.GetRoute() == f.route)
}

// brief is a decision in a few lines: how it ended, of what, and the step that
// ended it.
func (v *explanationView) brief() []byte {
	s, d := &sheet{}, v.decision
	how := outcomeOf(d)
	if how != "allow" {
		how = fmt.Sprintf("%s %d %s", how, d.GetStatus(), d.GetReason())
	}
	s.entry(d.GetTime().AsTime().UTC().Format("15:04:05.000 "), 13, how+", route "+orDash(d.GetRoute())+" ("+d.GetMode()+")")
	const width = 13
	s.entry("", width, orDash(d.GetMethod())+" "+orDash(d.GetPath()))
	var who []string
	for _, w := range []struct{ name, value string }{
		{"user", d.GetUserId()}, {"company", d.GetCompanyId()}, {"id", d.GetRequestId()},
	} {
		if w.value != "" {
			who = append(who, w.name+" "+w.value)
		}
	}
	for _, text := range who {
		s.entry("", width, text)
	}
	if why := v.ended(); why != "" {
		s.entry("", width, why)
	}
	if r := v.Recorded; r.Verdict == "changed" {
		s.entry("", width, "by the settings of this command it would be: "+ending(*r.To))
	}
	return []byte(s.String())
}

// ended is what the step says that ended the check, or else what the record does.
func (v *explanationView) ended() string {
	if v.Recorded.Verdict == "same" {
		for _, step := range v.Steps {
			if step.Status == "failed" {
				return step.Name + ": " + *step.Checked
			}
		}
	}
	d := v.decision
	switch {
	case outcomeOf(d) == "allow":
		return ""
	case d.GetCause() != "":
		return d.GetCause()
	case d.GetToken() != nil:
		return tokenFacts(d.GetToken())
	}
	return ""
}
