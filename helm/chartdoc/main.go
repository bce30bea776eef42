// Command chartdoc writes the chart's README.md from README.md.gotmpl, Chart.yaml
// and the comments in values.yaml, or with -check says whether it is stale. Exit
// codes: 0 fine, 1 stale or failed, 2 wrong use.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/template"

	"go.yaml.in/yaml/v4"
)

//go:generate go run . ../gatehouse

func main() { os.Exit(run(os.Args[1:], os.Stderr)) }

func run(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("chartdoc", flag.ContinueOnError)
	flags.SetOutput(stderr)
	check := flags.Bool("check", false, "change nothing; exit 1 if the file is stale")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: chartdoc [-check] CHART")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		if err == nil {
			flags.Usage()
		}
		return 2
	}
	if err := rewrite(flags.Arg(0), *check); err != nil {
		fmt.Fprintln(stderr, "chartdoc:", err)
		return 1
	}
	return 0
}

func rewrite(chart string, check bool) error {
	fresh, err := readme(chart)
	if err != nil {
		return err
	}
	name := filepath.Join(chart, "README.md")
	old, err := os.ReadFile(name)
	if err == nil && bytes.Equal(old, fresh) {
		return nil
	}
	if check {
		return fmt.Errorf("%s is stale: run make generate", name)
	}
	return os.WriteFile(name, fresh, 0o644) //nolint:gosec // a document, for everybody
}

// page is what the template sees.
type page struct {
	Version     string `yaml:"version"`
	AppVersion  string `yaml:"appVersion"`
	KubeVersion string `yaml:"kubeVersion"`
	Values      []value
}

func readme(chart string) ([]byte, error) {
	var p page
	about, err := os.ReadFile(filepath.Join(chart, "Chart.yaml"))
	if err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(about, &p); err != nil {
		return nil, fmt.Errorf("reading Chart.yaml: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return nil, err
	}
	if p.Values, err = values(text); err != nil {
		return nil, fmt.Errorf("reading values.yaml: %w", err)
	}
	t, err := template.ParseFiles(filepath.Join(chart, "README.md.gotmpl"))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
