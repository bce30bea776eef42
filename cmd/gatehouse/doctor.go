package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/config"
)

// checkTimeout bounds one question to something that may be gone.
const checkTimeout = 3 * time.Second

func newDoctor(in *invocation) *cobra.Command {
	var (
		out     format
		running bool
	)
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is found where, and what is wrong",
		Long: `Say what is found where, and what is wrong: settings, keys, database, programs
and ports. Nothing is changed, nothing is fetched and no secret is shown.

Marks: ok, warn (works, but look at it), fail (will not work). The exit code is 1
if something fails.`,
		Example: "  gatehouse doctor\n  gatehouse doctor --running\n  gatehouse doctor --output json",
		Args:    takes(),
		RunE: in.runs(func(ctx context.Context, _ []string) error {
			r := in.examine(ctx, running)
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.print(in, out); err != nil {
				return err
			}
			if r.failed() {
				return errReported
			}
			return nil
		}),
	}
	outputFlag(cmd, &out)
	cmd.Flags().BoolVar(&running, "running", false, "a part of the gateway that is not running is a failure")
	return cmd
}

// examine asks everything that can be asked with what is there. One wrong thing
// does not keep the rest from being looked at.
func (in *invocation) examine(ctx context.Context, running bool) *findings {
	r := &findings{}
	r.build()
	s, warnings, err := config.Load(in.source(), config.NeedUp)
	r.settings(s, warnings, err)
	if s != nil {
		r.missing(in.source())
	}
	r.programs(ctx, s)
	r.cache()
	if s == nil {
		r.add("database", markWarn, "not looked at: the settings are wrong")
		return r
	}
	r.keys(ctx, s)
	r.database(ctx, s)
	r.ports(ctx, s, running)
	return r
}

// mark is how a finding turned out.
type mark string

const (
	markOK   mark = "ok"
	markWarn mark = "warn"
	markFail mark = "fail"
)

// finding is one line of the report.
type finding struct {
	Area   string `json:"area"`
	Status mark   `json:"status"`
	Detail string `json:"detail"`
}

type findings struct{ list []finding }

func (r *findings) add(area string, m mark, format string, args ...any) {
	r.list = append(r.list, finding{area, m, fmt.Sprintf(format, args...)})
}

func (r *findings) failed() bool {
	for _, f := range r.list {
		if f.Status == markFail {
			return true
		}
	}
	return false
}

type report struct {
	OK       bool      `json:"ok"`
	Findings []finding `json:"findings"`
}

func (r *findings) print(in *invocation, out format) error {
	if out == formatJSON {
		return writeJSON(in.stdout, report{OK: !r.failed(), Findings: r.list})
	}
	tab := newTable()
	for _, f := range r.list {
		// What takes several lines in an error message takes them here too, with
		// the first two columns left blank.
		for i, line := range lines(f.Detail) {
			if i == 0 {
				tab.row(string(f.Status), f.Area, line)
				continue
			}
			tab.row(" ", " ", line)
		}
	}
	if err := tab.writeTo(in.stdout); err != nil {
		return err
	}
	if !r.failed() {
		return nil
	}
	return write(in.stdout, []byte("something will not work: see the lines marked fail\n"))
}

func lines(text string) []string {
	var list []string
	for line := range bytes.Lines([]byte(text)) {
		list = append(list, string(bytes.TrimRight(line, "\r\n")))
	}
	if len(list) == 0 {
		list = []string{""}
	}
	return list
}
