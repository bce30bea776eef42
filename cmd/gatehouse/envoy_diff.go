package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
	"github.com/atenex/gatehouse/internal/config"
)

func newEnvoyDiff(in *invocation) *cobra.Command {
	var (
		out    format
		routes string
		coded  bool
	)
	cmd := &cobra.Command{
		Use:   "diff OLD [NEW]",
		Short: "Say what changes between two configurations or route tables",
		Long: `Say in words what changes between two Envoy configurations or route tables, those
things first, marked with !, that decide who gets where: routes added or removed,
another mode, other roles.

OLD and NEW are route tables (prefix, explicit or a file) or Envoy configurations;
without NEW, OLD is compared with what 'envoy render' would write. Two tables are
compared by themselves, whatever the settings.`,
		Example: "  gatehouse envoy diff /etc/envoy/envoy.yaml\n  gatehouse envoy diff prefix routes.yaml\n  gatehouse envoy diff --exit-code old.yaml new.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 2 {
				return takes("OLD", "NEW")(cmd, args)
			}
			return takes("OLD")(cmd, args[:min(len(args), 1)])
		},
		RunE: in.runs(func(_ context.Context, args []string) error {
			changes, err := in.diff(routes, args)
			if err != nil {
				return err
			}
			if out == formatJSON {
				err = writeJSON(in.stdout, changes)
			} else {
				err = write(in.stdout, diffText(changes))
			}
			if err == nil && coded && len(changes) > 0 {
				err = errReported
			}
			return err
		}),
	}
	routesFlag(cmd, &routes)
	outputFlag(cmd, &out)
	cmd.Flags().BoolVar(&coded, "exit-code", false, "end with 1 where there are differences")
	return cmd
}

// side is one of the two: a table, or a configuration.
type side struct {
	table  *routes.Table
	config []byte
}

func (in *invocation) diff(routes string, args []string) ([]envoy.Change, error) {
	var sides []side
	for _, name := range args {
		one, err := in.side(name)
		if err != nil {
			return nil, err
		}
		sides = append(sides, one)
	}
	settings := envoy.DefaultSettings()
	// Nobody's settings matter between two tables; both have an auth service, so
	// that the routes to it can be seen.
	settings.AuthURL = "http://127.0.0.1:8003"
	if len(args) < 2 || sides[0].table == nil || sides[1].table == nil {
		s, err := in.settings(config.NeedEnvoy)
		if err != nil {
			return nil, err
		}
		if settings, err = in.envoySettings(s); err != nil {
			return nil, err
		}
		if len(args) < 2 {
			table, err := routeTable(s, routes)
			if err != nil {
				return nil, &useError{err}
			}
			sides = append(sides, side{table: &table})
		}
	}
	for i := range sides {
		if sides[i].table == nil {
			continue
		}
		b, err := envoy.Bootstrap(*sides[i].table, settings)
		if err != nil {
			return nil, &useError{err}
		}
		if sides[i].config, err = envoy.YAML(b); err != nil {
			return nil, err
		}
	}
	changes, err := envoy.DiffYAML(sides[0].config, sides[1].config)
	if changes == nil {
		changes = []envoy.Change{} // a list in JSON too
	}
	return changes, err
}

func (in *invocation) side(name string) (side, error) {
	var text []byte
	var err error
	if !slices.Contains(routes.Shipped(), name) {
		if name, text, err = in.configuration(nil, "", []string{name}); err != nil {
			return side{}, err
		}
	}
	if text == nil || routes.IsTable(text) {
		read := func() (routes.Table, error) { return routes.Load(name) }
		if text != nil {
			read = func() (routes.Table, error) { return routes.ParseOf(name, text) }
		}
		table, err := read()
		return side{table: &table}, err
	}
	if _, err := envoy.ParseYAML(text); err != nil {
		return side{}, fmt.Errorf("%s: %w", name, err)
	}
	return side{config: text}, nil
}

func diffText(changes []envoy.Change) []byte {
	if len(changes) == 0 {
		return []byte("no differences\n")
	}
	var b bytes.Buffer
	for _, c := range changes {
		mark := " "
		if c.Loud {
			mark = "!"
		}
		fmt.Fprintf(&b, "%s %s: %s\n", mark, printable(c.About), printable(c.What))
	}
	return b.Bytes()
}
