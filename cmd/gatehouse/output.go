package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
)

// format is how a command that lists or shows prints.
type format string

const (
	formatText format = "text"
	formatJSON format = "json"
)

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "json|text" }

func (f *format) Set(text string) error {
	switch format(text) {
	case formatText, formatJSON:
		*f = format(text)
		return nil
	}
	return fmt.Errorf("must be json or text")
}

// outputFlag adds --output to a command.
func outputFlag(cmd *cobra.Command, f *format) {
	*f = formatText
	cmd.Flags().VarP(f, "output", "o", "how to print: json or text")
	// The flag exists: it was made on the line above.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "text"}, cobra.ShellCompDirectiveNoFileComp))
}

// writeJSON prints one value, indented, with a newline. Nothing is written when
// the value cannot be encoded.
func writeJSON(w io.Writer, value any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		return fmt.Errorf("encoding the output: %w", err)
	}
	return write(w, b.Bytes())
}

func write(w io.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return nil
}

// table prints aligned columns.
type table struct {
	text bytes.Buffer
	tabs *tabwriter.Writer
}

func newTable(columns ...string) *table {
	t := &table{}
	t.tabs = tabwriter.NewWriter(&t.text, 0, 0, 2, ' ', 0)
	if len(columns) > 0 {
		t.row(columns...)
	}
	return t
}

// row adds one line; an empty cell shows as a dash, so that columns can be
// counted by a script.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		if c == "" {
			c = "-"
		}
		if i > 0 {
			fmt.Fprint(t.tabs, "\t")
		}
		fmt.Fprint(t.tabs, printable(c))
	}
	fmt.Fprintln(t.tabs)
}

func (t *table) writeTo(w io.Writer) error {
	if err := t.tabs.Flush(); err != nil {
		return err
	}
	return write(w, t.text.Bytes())
}

// printable keeps what a stranger typed as a name from moving the cursor of the
// operator who looks at it, or from adding a line to a table.
func printable(text string) string {
	plain := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
	if plain {
		return text
	}
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}

// stamp is RFC 3339 in UTC; empty for a time that never was.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// orNull makes an absent text null in JSON.
func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
