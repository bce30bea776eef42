package config

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is text that does not print. Every verb of fmt, slog, JSON and every
// other text encoding give "[redacted]"; only Reveal gives the text.
type Secret struct {
	// A pointer, because fmt reads an unexported field of a struct without
	// calling its methods, but follows no pointer on the way.
	text *string
}

// NewSecret wraps text. The empty text is the zero Secret: none.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal is the one way to the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports that there is no secret.
func (s Secret) IsZero() bool { return s.text == nil }

// String is "[redacted]".
func (s Secret) String() string { return redacted }

// Format answers every verb alike.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue is for slog, whose JSON handler would otherwise look inside.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText covers JSON, XML and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
