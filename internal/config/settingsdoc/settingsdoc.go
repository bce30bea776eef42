// Package settingsdoc writes the manual's chapter on settings from the table
// that the binaries read them by. It must never know a value, only what the
// table says of each setting.
package settingsdoc

import (
	"bytes"
	"errors"
	"strings"

	"github.com/atenex/gatehouse/internal/config"
)

// The lines between which Insert puts the chapter.
const (
	Begin = "<!-- settings:begin -->"
	End   = "<!-- settings:end -->"
)

// Markdown is the chapter, without a heading.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| setting | default | read by | meaning |\n|---|---|---|---|\n")
	for _, d := range config.Describe() {
		b.WriteString("| `" + d.Name + "`")
		if d.File {
			b.WriteString(" or `…_FILE`")
		}
		b.WriteString(" | " + cell(defaultOf(d)) + " | " + d.ReadBy + " | ")
		if !d.Available {
			b.WriteString("**Not available in this version.** ")
		}
		b.WriteString(cell(d.Meaning) + " |\n")
	}
	b.WriteString(notes)
	return b.String()
}

func defaultOf(d config.Description) string {
	switch {
	case d.Required:
		return "required"
	case d.Default == "":
		return "unset"
	}
	return d.Default
}

// cell keeps text inside its column.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

const notes = `
Settings come from the environment, then from ` + "`.env`" + ` in the working directory. A setting that the environment has, even empty, is not looked up in ` + "`.env`" + `.

- A wrong value is refused by every program, a missing one by those that need it. All faults are reported together, then the exit code is 2.
- An empty value is the same as none; only an empty ` + "`GATEWAY_JWT_SECRET`" + ` is refused. White space around a value is dropped, except around a secret.
- ` + "`…_FILE`" + ` names a file of at most 64 KiB that holds the value; exactly one line break (LF or CRLF) at its end is dropped. It is read only by the programs that use the setting. Both forms together are refused.
- A feature that is not available in this version is refused when a setting asks for it.
- In ` + "`.env`" + `, put a value that holds ` + "`$`" + `, ` + "`#`" + `, a backslash or a double quote in single quotes.
- Kubernetes puts variables such as ` + "`GATEWAY_PORT`" + ` beside a Service called ` + "`gateway`" + `: set ` + "`enableServiceLinks: false`" + `, or they are warned about as unknown settings.
`

// Insert returns document with Markdown between its two markers, each of which
// must be there once, on a line of its own.
func Insert(document []byte) ([]byte, error) {
	before, rest, ok := cut(document, Begin)
	if !ok {
		return nil, errors.New("the line " + Begin + " is not there exactly once")
	}
	_, after, ok := cut(rest, End)
	if !ok {
		return nil, errors.New("the line " + End + " is not there exactly once after " + Begin)
	}
	return bytes.Join([][]byte{before, []byte(Begin + "\n"), []byte(Markdown()), []byte(End + "\n"), after}, nil), nil
}

// cut splits document at the one line that is marker.
func cut(document []byte, marker string) (before, after []byte, ok bool) {
	lines := bytes.SplitAfter(document, []byte("\n"))
	at := -1
	for i, line := range lines {
		if string(bytes.TrimRight(line, "\r\n")) != marker {
			continue
		}
		if at >= 0 {
			return nil, nil, false
		}
		at = i
	}
	if at < 0 {
		return nil, nil, false
	}
	return bytes.Join(lines[:at], nil), bytes.Join(lines[at+1:], nil), true
}
