package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/envoy/lint"
)

func newEnvoyLint(in *invocation) *cobra.Command {
	var out format
	cmd := &cobra.Command{
		Use:   "lint FILE",
		Short: "Hold any Envoy configuration against the gate's rules",
		Long: `Hold any Envoy configuration against the rules without which the gate can be got
around, whoever wrote it: a bootstrap, a listener, an answer of LDS, RDS or CDS,
or a config dump, in YAML or JSON. - reads standard input.

Each finding says where, why, and how to mend it. Routes that ext_authz is not
asked about are listed too: that is no fault, but somebody has to have meant it.
Nothing is started; see 'envoy validate' for what Envoy itself says.

Exit code 1 with a finding of severity error.`,
		Example: "  gatehouse envoy lint /etc/envoy/envoy.yaml\n  gatehouse envoy render | gatehouse envoy lint -\n  curl -s localhost:9901/config_dump | gatehouse envoy lint --output json -",
		Args:    takes("FILE"),
		RunE: in.runs(func(_ context.Context, args []string) error {
			what, text, err := in.configuration(nil, "", args)
			if err != nil {
				return err
			}
			report, err := lint.Check(text)
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			if out == formatJSON {
				err = writeJSON(in.stdout, report)
			} else {
				err = write(in.stdout, lintText(what, report))
			}
			if err != nil {
				return err
			}
			if report.Failed() {
				return errReported
			}
			return nil
		}),
	}
	outputFlag(cmd, &out)
	return cmd
}

// lintText is a report for people. File and line come first, as editors and
// terminals know them.
func lintText(what string, r lint.Report) []byte {
	var b bytes.Buffer
	counted := map[lint.Severity]int{}
	for _, f := range r.Findings {
		counted[f.Severity]++
		fmt.Fprintf(&b, "%s:%d: %s: %s: %s\n", printable(what), f.Line, f.Severity, f.ID, printable(f.Found))
		for _, line := range [][2]string{{"where", f.Where}, {"why", f.Why}, {"mend", f.Mend}} {
			fmt.Fprintf(&b, "    %-6s %s\n", line[0]+":", printable(line[1]))
		}
	}
	if len(r.Open) > 0 {
		fmt.Fprintln(&b, "routes that anybody may use, unchecked or with auth_mode none:")
		for _, o := range r.Open {
			fmt.Fprintf(&b, "    line %d: %s\n", o.Line, printable(strings.TrimSpace(o.Route+" ("+o.Match+")")))
		}
	}
	fmt.Fprintf(&b, "%d errors, %d warnings\n", counted[lint.Error], counted[lint.Warning])
	return b.Bytes()
}

// routesFlag names another table than the settings do, for one call.
func routesFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "routes", "", "the route `TABLE`: prefix, explicit or a file (default GATEWAY_ROUTES)")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if *to == "" && cmd.Flags().Changed("routes") {
			// --routes "$UNSET" must not mean another table than the one in mind.
			return errors.New("--routes: empty, want prefix, explicit or a file")
		}
		return nil
	}
}
