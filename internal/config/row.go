package config

const (
	prefix     = "GATEWAY_"
	fileSuffix = "_FILE"
)

// row is one setting. Parsing, faults, masking, the warning about unknown names
// and the manual all follow from it.
type row struct {
	name string // without prefix
	// fallback is read like a given value, so that the default in the manual
	// cannot differ from the one in force. Empty: the field stays zero.
	fallback string
	// defaultText is the default in the manual, where fallback is not all of it.
	defaultText string
	// secret values are never printed and have a _FILE form.
	secret bool
	// file gives a _FILE form to a value that is no secret.
	file bool
	// by are those who use the setting; required those who cannot do without.
	by       Need
	required Need
	// blankRefused turns an explicitly empty value, elsewhere the same as none,
	// into a fault.
	blankRefused bool
	// meaning is Markdown for the manual.
	meaning string
	// later marks a feature that this version does not have; accepts are the
	// values that do not ask for it.
	later   bool
	accepts []string
	// read parses text into its field. Its error is what follows the name in a
	// fault and never holds the text of a secret or of a URL.
	read func(*Settings, string) error
	// path takes the absolute name of the file that the value came from; nil: of
	// no interest.
	path func(*Settings, string)
	// names reports whether the text itself is the name of a file, which is then
	// made one that does not depend on where a process runs; nil: it never is.
	names func(text string) bool
	// show is what the start log prints, where that is not the text itself.
	show func(*Settings) string
}

func (r row) full() string { return fullName(r.name) }

func (r row) hasFile() bool { return r.secret || r.file }

// usedBy reports whether a caller with this need looks at the value.
func (r row) usedBy(need Need) bool { return need&(r.by|NeedUp) != 0 }

// fullName is the name in the environment.
func fullName(name string) string {
	switch name {
	case "ENVOY_BIN", "PG_BIN", dotEnvName:
		return name
	}
	return prefix + name
}

// into joins a parser to the field that takes its result.
func into[T any](parse func(string) (T, error), field func(*Settings) *T) func(*Settings, string) error {
	return func(s *Settings, text string) error {
		value, err := parse(text)
		if err != nil {
			return err
		}
		*field(s) = value
		return nil
	}
}
