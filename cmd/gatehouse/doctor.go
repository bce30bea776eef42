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
		out   format
		asked doctorFlags
	)
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is found where, and what is wrong",
		Long: `Say what is wrong, and what is found where: settings, keys, database, programs and
ports. Nothing is changed, nothing is fetched and no secret is shown.

Marks: fail (will not work) first, warn (works, but look at it), ok. Every setting
with its value is listed with --verbose and in JSON. A part whose address is not
set is looked for where 'gatehouse up' runs it, if one does.

The exit code is 1 if something fails.`,
		Example: "  gatehouse doctor\n  gatehouse doctor --running\n  gatehouse doctor --verbose\n  gatehouse doctor --output json",
		Args:    takes(),
		RunE: in.runs(func(ctx context.Context, _ []string) error {
			r := in.examine(ctx, asked)
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.print(in, out, asked.verbose); err != nil {
				return err
			}
			if r.failed() {
				return errReported
			}
			return nil
		}),
	}
	outputFlag(cmd, &out)
	cmd.Flags().BoolVar(&asked.running, "running", false, "a part of the gateway that is not running is a failure")
	cmd.Flags().BoolVar(&asked.verbose, "verbose", false, "list every setting too, with where it comes from")
	cmd.Flags().StringVar(&asked.stateDir, "state-dir", "", "where 'gatehouse up' keeps its state: `DIR` (default as there)")
	return cmd
}

type doctorFlags struct {
	running, verbose bool
	stateDir         string
}

// examine asks everything that can be asked with what is there. One wrong thing
// does not keep the rest from being looked at.
func (in *invocation) examine(ctx context.Context, asked doctorFlags) *findings {
	r := &findings{}
	r.build()
	s, warnings, err := config.Load(in.source(), config.NeedUp)
	r.settings(s, warnings, err)
	if s != nil {
		r.missing(in.source(), warnings)
	}
	beside := in.runningUp(ctx, asked.stateDir)
	r.up(s, beside)
	r.programs(ctx, s)
	r.cache()
	if s == nil {
		r.add("database", markWarn, "not looked at: the settings are wrong")
		return r
	}
	r.keys(ctx, s)
	for _, w := range endingCertificates(s, time.Now()) {
		r.add("certificates", markWarn, "%s", w)
	}
	r.database(ctx, s)
	r.ports(ctx, s, beside, asked.running)
	return r
}

// areaSettings is the area of everything about settings.
const areaSettings = "settings"

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

	value bool // of a setting as it is in force, which is neither good nor bad
}

type findings struct {
	list []finding
	// set and fallen count the settings, which are told one by one only to those who
	// ask for all.
	set, fallen int
}

func (r *findings) add(area string, m mark, format string, args ...any) {
	r.list = append(r.list, finding{Area: area, Status: m, Detail: fmt.Sprintf(format, args...)})
}

func (r *findings) count(m mark) (n int) {
	for _, f := range r.list {
		if f.Status == m {
			n++
		}
	}
	return n
}

func (r *findings) failed() bool { return r.count(markFail) > 0 }

type report struct {
	OK       bool      `json:"ok"`
	Findings []finding `json:"findings"`
}

func (r *findings) print(in *invocation, out format, verbose bool) error {
	if out == formatJSON {
		return writeJSON(in.stdout, report{OK: !r.failed(), Findings: r.list})
	}
	tab := newTable()
	for _, m := range []mark{markFail, markWarn, markOK} {
		for _, f := range r.list {
			if f.Status == m && (verbose || !f.value) {
				f.tell(tab)
			}
		}
	}
	if !verbose && r.set+r.fallen > 0 {
		finding{Area: areaSettings, Status: markOK, Detail: fmt.Sprintf("%d set, %d by default; --verbose lists them", r.set, r.fallen)}.tell(tab)
	}
	if err := tab.writeTo(in.stdout); err != nil {
		return err
	}
	return write(in.stdout, []byte(r.summary()))
}

// summary is the last line, which a terminal shows whatever came before it.
func (r *findings) summary() string {
	fails, warns := r.count(markFail), r.count(markWarn)
	switch {
	case fails > 0:
		return fmt.Sprintf("something will not work: %d marked fail, %d marked warn, at the top\n", fails, warns)
	case warns > 0:
		return fmt.Sprintf("nothing fails; %d to look at, marked warn, at the top\n", warns)
	}
	return "nothing is wrong\n"
}

// tell adds the lines of a finding to a table.
func (f finding) tell(tab *table) {
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
