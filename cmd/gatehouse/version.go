package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/buildinfo"
)

type versionView struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (v versionView) String() string {
	return fmt.Sprintf("%s (%s) %s %s", v.Version, v.Revision, v.Go, v.Platform)
}

func thisVersion() versionView {
	return versionView{
		Version:  buildinfo.Version(),
		Revision: buildinfo.Revision(),
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

func newVersion(in *invocation) *cobra.Command {
	var out format
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this command",
		Example: "  gatehouse version\n  gatehouse version --output json",
		Args:    takes(),
		RunE: in.runs(func(context.Context, []string) error {
			v := thisVersion()
			if out == formatJSON {
				return writeJSON(in.stdout, v)
			}
			return write(in.stdout, fmt.Appendf(nil, "gatehouse %s\n", v))
		}),
	}
	outputFlag(cmd, &out)
	return cmd
}
