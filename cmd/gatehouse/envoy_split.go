package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/internal/atomicfile"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/devstack"
)

// splitOptions are those of a configuration in files that Envoy watches.
type splitOptions struct {
	dir    string
	seenAs string
	admins []string
	settle time.Duration
	dry    bool
}

// takenLimit is how long an Envoy that is asked may take over one file: a cluster
// is in use when its name has been looked up and its members have answered.
const takenLimit = 30 * time.Second

func (o *splitOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.dir, "split", "", "write into `DIR` what Envoy watches, file by file")
	f.StringVar(&o.seenAs, "seen-as", "", "the `DIR` where Envoy sees that directory (default: where it is)")
	f.StringArrayVar(&o.admins, "envoy-admin", nil, "ask the Envoy at this `URL` when it has a file (one for each Envoy)")
	f.DurationVar(&o.settle, "settle", 5*time.Second, "without --envoy-admin: how long Envoy is given for a file that the next one rests on")
	f.BoolVar(&o.dry, "dry-run", false, "with --split: say what would change, and write nothing")
	cmd.MarkFlagsMutuallyExclusive("split", "output")
	check := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return err
		}
		if o.dir == "" {
			if f.Changed("split") {
				return errors.New("--split: empty, want a directory")
			}
			for _, name := range []string{"seen-as", "envoy-admin", "settle", "dry-run"} {
				if f.Changed(name) {
					return fmt.Errorf("--%s is for --split", name)
				}
			}
		}
		if o.settle < 0 {
			return fmt.Errorf("--settle %v: must not be negative", o.settle)
		}
		for _, admin := range o.admins {
			if u, err := url.Parse(admin); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
				return fmt.Errorf("--envoy-admin %q: want http://host:port", admin)
			}
		}
		return nil
	}
}

// renderSplit refuses before it writes: with an error of the table or of the
// settings, all files are as they were.
func (in *invocation) renderSplit(ctx context.Context, s *config.Settings, routes string, o splitOptions) error {
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return fmt.Errorf("--split: %w", err)
	}
	seen := dir
	if o.seenAs != "" {
		if !filepath.IsAbs(o.seenAs) {
			return misuse("--seen-as %q: want an absolute path", o.seenAs)
		}
		seen = o.seenAs
	}
	table, err := routeTable(s, routes)
	if err != nil {
		return &useError{err}
	}
	settings, err := in.envoySettings(s)
	if err != nil {
		return err
	}
	settings.SecretsDir = seen
	after, err := envoy.Split(table, settings, seen)
	if err != nil {
		return &useError{err}
	}
	before, err := readSplit(dir)
	if err != nil {
		return err
	}
	steps, err := envoy.Steps(before, after)
	if err != nil {
		return fmt.Errorf("what is in %s cannot be followed (without its files, and with Envoy restarted, there is nothing to follow): %w", o.dir, err)
	}
	if !o.dry {
		// One level: a path that is misspelt further up is a mistake.
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // Envoy, which reads it, is another user
			return fmt.Errorf("--split: %w", err)
		}
		// First: the listener or the cluster that asks for them may be new.
		if err := writeSecretFiles(settings, dir); err != nil {
			return err
		}
		if err := in.replace(ctx, dir, before, steps, o); err != nil {
			return err
		}
	}
	return write(in.stdout, []byte("changes: "+envoy.Effect(before, after)+"\n"))
}

// readSplit is what is there of a split configuration.
func readSplit(dir string) (envoy.Files, error) {
	out := envoy.Files{}
	for _, name := range envoy.SplitFiles() {
		content, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("reading the configuration: %w", err)
		default:
			out[name] = content
		}
	}
	return out, nil
}

// replace makes the steps, each when the one before is in force. When one of them
// cannot be made or Envoy does not take it, all are taken back, so that an Envoy that
// starts finds what the running ones have.
func (in *invocation) replace(ctx context.Context, dir string, before envoy.Files, steps []envoy.Step, o splitOptions) error {
	// Files that nobody watched yet are in nobody's way.
	watched := len(before) > 0
	var edge edgeEnvoys
	if watched && len(steps) > 0 {
		var err error
		if edge, err = reachEnvoys(ctx, o.admins); err != nil {
			return err
		}
	}
	routed := false
	for i, step := range steps {
		settle := o.settle
		if !watched || i == len(steps)-1 {
			settle = 0 // nothing rests on it
		}
		err := place(ctx, dir, step, edge, settle)
		switch {
		case err == nil:
			routed = routed || step.File == envoy.FileRoutes
			continue
		case ctx.Err() != nil:
			return fmt.Errorf("at %s; the same command goes on from there: %w", step.File, ctx.Err())
		case routed:
			return fmt.Errorf("the new routes are in force, but what they no longer need may not be gone: %w", err)
		}
		for j := i; j >= 0; j-- {
			old := steps[j].File
			if before[old] == nil {
				continue
			}
			if backErr := put(dir, old, before[old]); backErr != nil {
				return errors.Join(err, backErr)
			}
			if j > 0 && len(edge) > 1 {
				// Of several Envoys some may have taken it.
				if backErr := pause(ctx, o.settle); backErr != nil {
					return errors.Join(err, backErr)
				}
			}
		}
		return fmt.Errorf("%w; the files are as they were", err)
	}
	return nil
}

// place makes one step. Without an Envoy to ask it is given that much time.
func place(ctx context.Context, dir string, step envoy.Step, edge edgeEnvoys, settle time.Duration) error {
	told, err := edge.about(ctx, step)
	if err != nil {
		return err
	}
	if err := put(dir, step.File, step.Content); err != nil {
		return err
	}
	switch {
	case step.Version == "":
		return nil // it is not read again
	case len(edge) > 0:
		return told.taken(ctx)
	}
	return pause(ctx, settle)
}

func put(dir, name string, content []byte) error {
	// There is no secret in it, and Envoy runs as another user.
	return atomicfile.Write(filepath.Join(dir, name), content, 0o644)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// validateSplit has all files of a directory checked as the one configuration that
// they are.
func (in *invocation) validateSplit(ctx context.Context, s *config.Settings, dir string) error {
	files, err := readSplit(dir)
	if err != nil {
		return err
	}
	joined, err := files.Join()
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	text, err := envoy.YAML(joined)
	if err != nil {
		return err
	}
	binary, err := devstack.EnvoyBinary(ctx, devstack.FindOptions{EnvoyBin: s.EnvoyBin, Notice: in.complain})
	if err != nil {
		if s.EnvoyBin != "" || ctx.Err() != nil {
			return err
		}
		in.complain("warning: " + err.Error())
		return write(in.stdout, fmt.Appendf(nil, "%s is valid by the rules of Envoy's API; there is no Envoy to ask for more\n", dir))
	}
	if err := envoy.Validate(ctx, binary.Path, text); err != nil {
		return err
	}
	return write(in.stdout, fmt.Appendf(nil, "%s is valid for Envoy %s\n", dir, binary.Version))
}
