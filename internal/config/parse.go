package config

import (
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/atenex/gatehouse/internal/identity"
)

// LevelCritical is above slog.LevelError, as in the replaced gateways.
const LevelCritical = slog.LevelError + 4

// quote shows a wrong value in a fault, unless it is so long or so shaped that
// it may be a secret pasted into the wrong place.
func quote(text string) string {
	const longest = 31 // one less than the shortest good JWT_SECRET
	if len(text) > longest || strings.Contains(text, "@") {
		return "the value"
	}
	return strconv.QuoteToASCII(text)
}

func oneOf(allowed ...string) func(string) (string, error) {
	return func(text string) (string, error) {
		for _, a := range allowed {
			if text == a {
				return text, nil
			}
		}
		last := len(allowed) - 1
		return "", fmt.Errorf("%s is not %s or %s", quote(text), strings.Join(allowed[:last], ", "), allowed[last])
	}
}

func check(text string) (Check, error) {
	value, err := oneOf(string(CheckRequired), string(CheckOff))(text)
	return Check(value), err
}

func algorithms() []string {
	return []string{
		"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
		"ES256", "ES384", "ES512", "EdDSA",
	}
}

func sslModes() []string {
	return []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
}

// aFile reports whether the text of ROUTES names a file and not a table that
// ships.
func aFile(text string) bool { return text != RoutesPrefix && text != RoutesExplicit }

// boolean takes true and false in any letter case: the replaced gateways were
// Python and were often given True.
func boolean(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%s is not true or false", quote(text))
}

// digits keeps out what strconv takes beside plain numbers: signs, underscores,
// exponents, hexadecimal, "inf".
var (
	digits  = regexp.MustCompile(`^[0-9]+$`)
	decimal = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
)

func whole[T int | int32 | uint16 | uint32](low, high T) func(string) (T, error) {
	return func(text string) (T, error) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || !digits.MatchString(text) || n < int64(low) || n > int64(high) {
			return 0, fmt.Errorf("%s is not a whole number from %d to %d", quote(text), low, high)
		}
		return T(n), nil
	}
}

func port(text string) (uint16, error) {
	n, err := whole[uint16](1, 65535)(text)
	if err != nil {
		err = fmt.Errorf("%s is not a port number (1 to 65535)", quote(text))
		if strings.HasPrefix(text, "tcp://") {
			err = fmt.Errorf("%w; Kubernetes sets such a value for a Service of this name: set enableServiceLinks to false", err)
		}
	}
	return n, err
}

func seconds(text string) (time.Duration, error) {
	n, err := strconv.ParseFloat(text, 64)
	// Envoy counts milliseconds; a day is longer than anyone waits.
	if err != nil || !decimal.MatchString(text) || n < 0.001 || n > 86400 {
		return 0, fmt.Errorf("%s is not a number of seconds from 0.001 to 86400, such as 60 or 0.5", quote(text))
	}
	return time.Duration(n * float64(time.Second)).Round(time.Millisecond), nil
}

// secondsOrNone reads 0 as none, and no less than a second otherwise.
func secondsOrNone(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	d, err := seconds(text)
	if err != nil || d < time.Second {
		return 0, fmt.Errorf("%s is neither 0 nor a number of seconds from 1 to 86400, such as 3600", quote(text))
	}
	return d, nil
}

func duration(low, high time.Duration) func(string) (time.Duration, error) {
	return func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		if err != nil || d < low || d > high {
			return 0, fmt.Errorf("%s is not a duration from %s to %s, such as 90s, 15m or 1h", quote(text), short(low), short(high))
		}
		return d, nil
	}
}

// days reads "365d"; "off" is zero.
func days(text string) (time.Duration, error) {
	if text == "off" {
		return 0, nil
	}
	number, ok := strings.CutSuffix(text, "d")
	n, err := whole[uint32](1, 36_500)(number)
	if !ok || err != nil {
		return 0, fmt.Errorf("%s is not a number of days from 1d to 36500d, or off", quote(text))
	}
	return time.Duration(n) * 24 * time.Hour, nil
}

// roles reads words with commas between them.
func roles(text string) ([]string, error) {
	var found []string
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		if word == "" || utf8.RuneCountInString(word) > 64 || strings.ContainsFunc(word, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
			return nil, fmt.Errorf("%s is not a list of roles such as user,admin: each is one word of at most 64 characters", quote(text))
		}
		found = append(found, word)
	}
	return found, nil
}

// short is d without the zero minutes and seconds.
func short(d time.Duration) string {
	if d > 0 && d%time.Hour == 0 {
		return strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return d.String()
}

func rfc3339(text string) (time.Time, error) {
	var t time.Time
	// UnmarshalText keeps to the RFC; time.Parse does not.
	if err := t.UnmarshalText([]byte(text)); err != nil {
		return t, fmt.Errorf("%s is not an RFC 3339 time such as 2031-05-17T00:00:00Z", quote(text))
	}
	// The zero time means "not set" to readers, and would lift the limit.
	if t.IsZero() {
		return t, errors.New("is the zero time")
	}
	return t, nil
}

func parseLevel(text string) (slog.Level, error) {
	switch strings.ToUpper(text) {
	case "DEBUG":
		return slog.LevelDebug, nil
	case "INFO":
		return slog.LevelInfo, nil
	case "WARNING":
		return slog.LevelWarn, nil
	case "ERROR":
		return slog.LevelError, nil
	case "CRITICAL":
		return LevelCritical, nil
	}
	return 0, fmt.Errorf("%s is not DEBUG, INFO, WARNING, ERROR or CRITICAL", quote(text))
}

// printable text can stand in a log line, a JSON body and a header.
func printable(longest int) func(string) (string, error) {
	return func(text string) (string, error) {
		if len(text) > longest {
			return "", fmt.Errorf("is longer than %d bytes", longest)
		}
		if !isPrintable(text) {
			return "", errors.New("holds characters that cannot be printed")
		}
		return text, nil
	}
}

func isPrintable(text string) bool {
	return utf8.ValidString(text) && strings.IndexFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) < 0
}

func companyID(text string) (identity.CompanyID, error) {
	id, err := identity.ParseCompanyID(text)
	if err != nil {
		return id, fmt.Errorf("%s is not a UUID of 36 characters with hyphens", quote36(text))
	}
	if id.IsZero() {
		return id, errors.New("is the nil UUID, which is nobody's")
	}
	return id, nil
}

// quote36 shows a UUID that is nearly right, which quote would not.
func quote36(text string) string {
	if len(text) > 38 || strings.Trim(text, "0123456789abcdefABCDEF-{}") != "" {
		return quote(text)
	}
	return strconv.Quote(text)
}

// serviceKey can stand in a header.
func serviceKey(text string) (Secret, error) {
	switch {
	case strings.EqualFold(strings.TrimSpace(text), "YOUR_SUPABASE_SERVICE_ROLE_KEY_HERE"):
		return Secret{}, errors.New("is the placeholder of the example files")
	case strings.Trim(text, " \t\r\n") == "":
		return Secret{}, errors.New("is blank")
	case strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }):
		return Secret{}, errors.New("holds characters that no such key has")
	}
	return NewSecret(text), nil
}

func opaque(text string) (Secret, error) { return NewSecret(text), nil }

func databasePassword(text string) (Secret, error) {
	if strings.IndexByte(text, 0) >= 0 {
		return Secret{}, errors.New("holds a NUL character, which PostgreSQL cannot take")
	}
	return NewSecret(text), nil
}

// pemText undoes the `\n` that puts a PEM text on the one line that an
// environment file allows. What is in the block is the token package's matter.
func pemText(text string) (string, *pem.Block, error) {
	text = strings.TrimSpace(text)
	if !strings.ContainsAny(text, "\n") {
		text = strings.NewReplacer(`\r\n`, "\n", `\n`, "\n").Replace(text)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil {
		return "", nil, errors.New(`is not PEM ("-----BEGIN ..." to "-----END ...")`)
	}
	if len(strings.TrimSpace(string(rest))) > 0 {
		return "", nil, errors.New("holds more than one PEM block")
	}
	return text, block, nil
}

func publicPEM(text string) (string, error) {
	text, block, err := pemText(text)
	if err != nil {
		return "", err
	}
	if strings.Contains(block.Type, "PRIVATE") {
		return "", errors.New("holds a private key; that belongs in GATEWAY_JWT_PRIVATE_KEY")
	}
	return text, nil
}

func privatePEM(text string) (Secret, error) {
	text, block, err := pemText(text)
	if err != nil {
		return Secret{}, err
	}
	if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return Secret{}, errors.New("holds no private key")
	}
	return NewSecret(text), nil
}
