package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/cmd/internal/wiring"
	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
	"github.com/atenex/gatehouse/internal/atomicfile"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/devstack"
)

func newEnvoy(in *invocation) *cobra.Command {
	return group(&cobra.Command{
		Use:   "envoy",
		Short: "Write and check Envoy's configuration",
	},
		newEnvoyRender(in),
		newEnvoyValidate(in),
		newEnvoyLint(in),
		newEnvoyDiff(in),
		newEnvoySchema(in),
	)
}

func newEnvoyRender(in *invocation) *cobra.Command {
	var file, routes string
	var split splitOptions
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Write Envoy's configuration from the settings and the route table",
		Long: `Write Envoy's configuration from the settings and the route table.

The same settings always give the same bytes. There is no secret in it.

With --split it is written in files that Envoy watches, so that a new table is in
force without a restart: bootstrap.yaml, with which Envoy starts, cds.yaml, lds.yaml
and rds.yaml. A table that is wrong changes nothing; files that stay the same are not
touched; the others are replaced one after the other, in an order in which no request
is lost. What the difference means to Envoy is printed.`,
		Example: "  gatehouse envoy render > envoy.yaml\n  gatehouse envoy render --output /etc/envoy/envoy.yaml\n  gatehouse envoy render --routes routes.yaml\n  gatehouse envoy render --split /etc/envoy --envoy-admin http://127.0.0.1:9901",
		Args:    takes(),
		RunE: in.runs(func(ctx context.Context, _ []string) error {
			s, err := in.settings(config.NeedEnvoy)
			if err != nil {
				return err
			}
			if split.dir != "" {
				return in.renderSplit(ctx, s, routes, split)
			}
			if file == "-" {
				file = ""
			}
			rendered, err := in.renderBeside(s, routes, file)
			if err != nil {
				return &useError{err}
			}
			if file == "" {
				return write(in.stdout, rendered)
			}
			// There is no secret in it, and Envoy runs as another user.
			return atomicfile.Write(file, rendered, 0o644)
		}),
	}
	routesFlag(cmd, &routes)
	cmd.Flags().StringVarP(&file, "output", "o", "", "replace a `FILE`, in one step, instead of printing")
	split.flags(cmd)
	return cmd
}

func newEnvoyValidate(in *invocation) *cobra.Command {
	var routes string
	cmd := &cobra.Command{
		Use:   "validate [FILE|DIR]",
		Short: "Have a real Envoy check a configuration",
		Long: `Have a real Envoy check a configuration: a file, or what 'envoy render' would
write. - reads standard input; of a directory that 'envoy render --split' wrote, all
files are checked together. Nothing is started.

Envoy is the one that ENVOY_BIN names, else the one that 'gatehouse up' would use.`,
		Example: "  gatehouse envoy validate\n  gatehouse envoy validate /etc/envoy/envoy.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return takes("FILE")(cmd, args)
			}
			return nil
		},
		RunE: in.runs(func(ctx context.Context, args []string) error {
			need := config.NeedEnvoy
			if len(args) == 1 {
				need = 0 // a file brings its own; only ENVOY_BIN is asked for
			}
			s, err := in.settings(need)
			if err != nil {
				return err
			}
			if len(args) == 1 && isDirectory(args[0]) {
				return in.validateSplit(ctx, s, args[0])
			}
			what, text, err := in.configuration(s, routes, args)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				beside, done, err := in.renderToCheck(s, routes)
				if err != nil {
					return &useError{err}
				}
				defer done()
				text = beside
			}
			binary, err := devstack.EnvoyBinary(ctx, devstack.FindOptions{EnvoyBin: s.EnvoyBin, Notice: in.complain})
			if err != nil {
				return err
			}
			if err := envoy.Validate(ctx, binary.Path, text); err != nil {
				return err
			}
			return write(in.stdout, fmt.Appendf(nil, "%s is valid for Envoy %s\n", what, binary.Version))
		}),
	}
	routesFlag(cmd, &routes)
	return cmd
}

// newEnvoySchema prints what editors check a route table with.
func newEnvoySchema(in *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of route tables, for editors",
		Long: `Print the JSON Schema of route tables, for editors. A table names it in its first
line:

  # yaml-language-server: $schema=routes.schema.json`,
		Example: "  gatehouse envoy schema > routes.schema.json",
		Args:    takes(),
		RunE: in.runs(func(context.Context, []string) error {
			return write(in.stdout, routes.Schema())
		}),
	}
}

// configuration is what is to be checked, and what to call it.
func (in *invocation) configuration(s *config.Settings, routes string, args []string) (what string, text []byte, err error) {
	switch {
	case len(args) == 0:
		text, err = in.renderEnvoy(s, routes)
		if err != nil {
			return "", nil, &useError{err}
		}
		return "the rendering of the settings", text, nil
	case args[0] == "-":
		what = "standard input"
		text, err = io.ReadAll(in.stdin)
	default:
		what = args[0]
		text, err = os.ReadFile(what)
	}
	switch {
	case err != nil:
		return "", nil, fmt.Errorf("reading the configuration: %w", err)
	case len(bytes.TrimSpace(text)) == 0:
		// An empty configuration is a valid one for Envoy, which would then
		// listen nowhere.
		return "", nil, fmt.Errorf("%s is empty", what)
	}
	return what, text, nil
}

// renderEnvoy goes by the table that is named, or with an empty name by that of
// the settings.
func (in *invocation) renderEnvoy(s *config.Settings, named string) ([]byte, error) {
	table, err := routeTable(s, named)
	if err != nil {
		return nil, err
	}
	return in.renderTable(table, s)
}

func routeTable(s *config.Settings, named string) (routes.Table, error) {
	if named != "" {
		return routes.Load(named)
	}
	return wiring.RouteTable(s.Edge.Routes)
}

func (in *invocation) renderTable(table routes.Table, s *config.Settings) ([]byte, error) {
	settings, err := in.envoySettings(s)
	if err != nil {
		return nil, err
	}
	bootstrap, err := envoy.Bootstrap(table, settings)
	if err != nil {
		return nil, err
	}
	return envoy.YAML(bootstrap)
}

// envoySettings says in Envoy's words what the settings say. Where authz and
// login listen on every interface, Envoy meets them on this machine.
func envoySettings(s *config.Settings) envoy.Settings {
	e := envoy.DefaultSettings()
	e.Listen = s.Listen.Public.String()
	e.AdminListen = s.Listen.EnvoyAdmin.String()
	e.Authz = dialable(s.Listen.Authz)
	e.LoginURL = "http://" + dialable(s.Listen.Login)
	e.IngestURL = urlText(s.Upstreams.Ingest)
	e.QueryURL = urlText(s.Upstreams.Query)
	e.AuthURL = urlText(s.Upstreams.Auth)
	e.CORSOrigins = s.Edge.Origins
	e.VercelFrontendURL = s.Edge.VercelFrontend
	e.NgrokURL = s.Edge.Ngrok
	e.LoginRate = routes.Rate{
		Requests: s.Edge.LoginRateLimit.Requests,
		Per:      s.Edge.LoginRateLimit.Per,
		Burst:    s.Edge.LoginRateLimit.Burst,
	}
	if s.Edge.LoginRateLimit.Off() {
		e.LoginRate = routes.Rate{}
	}
	e.ForwardAuthorization = s.Edge.ForwardAuthorization
	e.UpstreamTimeout = s.Upstreams.FirstByte
	e.StreamIdleTimeout = s.Upstreams.StreamIdle
	e.StreamMax = s.Upstreams.StreamMax
	e.MaxConnections = s.Upstreams.MaxConnections
	e.MemoryLimit = s.Edge.Bounds.Heap
	e.MaxClients = s.Edge.Bounds.Clients
	secureEnvoy(&e, s)
	return e
}

func urlText(u *url.URL) string {
	if u == nil {
		return ""
	}
	return u.String()
}
