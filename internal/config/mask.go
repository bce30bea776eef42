package config

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// shown is a setting as it may be printed.
type shown struct{ name, text string }

// show picks the settings in force, with secrets masked. A setting without a
// value is left out, and so are the parts of the database that DATABASE_URL
// replaces.
func show(rows []row, s *Settings, texts map[string]string) []shown {
	replaced := make(map[string]bool)
	if s.given["DATABASE_URL"] {
		for _, name := range databaseParts() {
			replaced[name] = true
		}
	}
	var list []shown
	for _, row := range rows {
		text := texts[row.name]
		switch {
		case row.name == "DATABASE_URL" && !s.Database.URL.IsZero():
			text = row.show(s)
		case row.secret && s.given[row.name]:
			text = redacted
		case row.show != nil && (text != "" || row.defaultText != ""):
			text = row.show(s)
		}
		if text != "" && !replaced[row.name] {
			list = append(list, shown{row.full(), text})
		}
	}
	return list
}

// Masked is the settings in force on one line, as NAME="value" pairs in the
// order of the manual, with secrets masked.
func (s *Settings) Masked() string {
	pairs := make([]string, len(s.shown))
	for i, one := range s.shown {
		pairs[i] = fmt.Sprintf("%s=%q", one.name, one.text)
	}
	return strings.Join(pairs, " ")
}

// LogValue is the settings in force as a group, with secrets masked, for the
// one log line at start.
func (s *Settings) LogValue() slog.Value {
	attrs := make([]slog.Attr, len(s.shown))
	for i, one := range s.shown {
		attrs[i] = slog.String(one.name, one.text)
	}
	return slog.GroupValue(attrs...)
}

// Format makes every verb of fmt print what Masked does. It is defined on the
// value, so that a copy prints no more than the original.
func (s Settings) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.Masked()) }

// MarshalJSON is an object of names and masked values.
func (s Settings) MarshalJSON() ([]byte, error) {
	values := make(map[string]string, len(s.shown))
	for _, one := range s.shown {
		values[one.name] = one.text
	}
	return json.Marshal(values)
}
