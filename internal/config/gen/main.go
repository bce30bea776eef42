// Command gen rewrites the chapter on settings in a Markdown file, or with
// -check says whether it is stale. Exit codes: 0 fine, 1 stale or failed, 2
// wrong use.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/atenex/gatehouse/internal/config/settingsdoc"
)

func main() { os.Exit(run(os.Args[1:], os.Stderr)) }

func run(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("gen", flag.ContinueOnError)
	flags.SetOutput(stderr)
	check := flags.Bool("check", false, "change nothing; exit 1 if the file is stale")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: gen [-check] FILE")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		if err == nil {
			flags.Usage()
		}
		return 2
	}
	if err := rewrite(flags.Arg(0), *check); err != nil {
		fmt.Fprintln(stderr, "gen:", err)
		return 1
	}
	return 0
}

func rewrite(name string, check bool) error {
	old, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	fresh, err := settingsdoc.Insert(old)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if bytes.Equal(old, fresh) {
		return nil
	}
	if check {
		return fmt.Errorf("%s is stale: its settings differ from those in internal/config", name)
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	return os.WriteFile(name, fresh, info.Mode().Perm())
}
