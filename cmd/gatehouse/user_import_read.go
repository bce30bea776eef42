package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
)

// importColumns are what a file of users may say of each, by the names that the
// columns of the users table have.
func importColumns() []string {
	return []string{"id", "email", "full_name", "role", "company_id", "is_active", "hashed_password", "created_at", "updated_at", "last_login"}
}

// candidate is one user of a file.
type candidate struct {
	line    int
	account identity.Account
	fault   error // nil: it can be made
}

// readCandidates hands over one user after the other. Its own error is of the file
// as a whole; what is wrong with one user is in that candidate.
func readCandidates(r io.Reader, jsonLines bool, ignored []string, each func(candidate) error) error {
	seen := map[string]int{}
	checked := func(line int, fields map[string]string, fault error) error {
		c := candidate{line: line, fault: fault}
		if fault == nil {
			c.account, c.fault = accountFrom(fields)
		}
		if c.fault == nil {
			folded := foldASCII(c.account.Email)
			if first, twice := seen[folded]; twice {
				c.fault = fmt.Errorf("email: the same as in line %d", first)
			} else {
				seen[folded] = line
			}
		}
		return each(c)
	}
	if jsonLines {
		return readJSONLines(r, ignored, checked)
	}
	return readCSV(r, ignored, checked)
}

func readCSV(r io.Reader, ignored []string, each func(line int, fields map[string]string, fault error) error) error {
	reader := csv.NewReader(r)
	reader.ReuseRecord = true
	header, err := reader.Read()
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty; its first line must name the columns")
	}
	if err != nil {
		return fmt.Errorf("the line of column names: %w", err)
	}
	columns := slices.Clone(header)
	columns[0] = strings.TrimPrefix(columns[0], "\ufeff") // as spreadsheets write it
	for i, name := range columns {
		if err := knownColumn(name, ignored); err != nil {
			return err
		}
		if slices.Contains(columns[:i], name) {
			return fmt.Errorf("the column %q is there twice", name)
		}
	}
	if !slices.Contains(columns, "email") {
		return errors.New("there is no column email; the first line must name the columns")
	}
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		line, _ := reader.FieldPos(0)
		if errors.Is(err, csv.ErrFieldCount) {
			err = each(line, nil, fmt.Errorf("%d values for %d columns", len(record), len(columns)))
			if err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		fields := make(map[string]string, len(columns))
		for i, name := range columns {
			if !slices.Contains(ignored, name) {
				fields[name] = record[i]
			}
		}
		if err := each(line, fields, nil); err != nil {
			return err
		}
	}
}

// longestLine bounds a line of JSON.
const longestLine = 1 << 20

func readJSONLines(r io.Reader, ignored []string, each func(line int, fields map[string]string, fault error) error) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, longestLine)
	line := 0
	for scanner.Scan() {
		line++
		if len(bytes.TrimSpace(scanner.Bytes())) == 0 {
			continue
		}
		fields, fault := jsonFields(scanner.Bytes(), ignored)
		if err := each(line, fields, fault); err != nil {
			return err
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("line %d: %w", line+1, err)
	}
	return nil
}

func jsonFields(text []byte, ignored []string) (map[string]string, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	fields := map[string]string{}
	for decoder.More() {
		key, err := decoder.Token()
		name, named := key.(string)
		if err != nil || !named {
			return nil, errors.New("not a JSON object")
		}
		var value any
		if err := decoder.Decode(&value); err != nil {
			return nil, errors.New("not a JSON object")
		}
		if err := knownColumn(name, ignored); err != nil {
			return nil, err
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("%s: is there twice", name)
		}
		switch v := value.(type) {
		case nil:
			if name == "is_active" {
				fields[name] = ""
			}
		case string:
			fields[name] = v
		case bool:
			fields[name] = fmt.Sprint(v)
		default:
			return nil, fmt.Errorf("%s: must be a text", name)
		}
		if slices.Contains(ignored, name) {
			delete(fields, name)
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errors.New("not a JSON object")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON object")
	}
	return fields, nil
}

func knownColumn(name string, ignored []string) error {
	switch {
	case slices.Contains(importColumns(), name), slices.Contains(ignored, name):
		return nil
	case name == "password":
		return errors.New("password: passwords are not imported, only their hashes (hashed_password)")
	}
	return fmt.Errorf("unknown column %q; known are %s, and --ignore passes one over", name, strings.Join(importColumns(), ", "))
}

// accountFrom reads what a file says of one user. Its errors name the column and
// repeat no hash.
func accountFrom(fields map[string]string) (a identity.Account, err error) {
	if a.Email = fields["email"]; a.Email == "" {
		return a, errors.New("email: is missing")
	}
	if err := identity.CheckEmail(a.Email); err != nil {
		return a, fmt.Errorf("email: %w", err)
	}
	if text := fields["id"]; text != "" {
		if a.ID, err = identity.ParseUserID(text); err != nil || a.ID.IsZero() {
			return a, errors.New("id: not a UUID")
		}
	}
	if text := fields["company_id"]; text != "" {
		if a.Company, err = identity.ParseCompanyID(text); err != nil || a.Company.IsZero() {
			return a, errors.New("company_id: not a UUID")
		}
	}
	if a.FullName = fields["full_name"]; checkLine(a.FullName, nameLimit) != nil {
		return a, fmt.Errorf("full_name: %w", checkLine(a.FullName, nameLimit))
	}
	if a.Role = fields["role"]; a.Role != "" && checkRole(a.Role) != nil {
		return a, errors.New("role: must be one word without a comma")
	}
	if a.PasswordHash = fields["hashed_password"]; a.PasswordHash != "" {
		if _, usable := password.SchemeOf(a.PasswordHash); !usable {
			return a, errors.New("hashed_password: no hash that a password can be verified against (bcrypt $2a$, $2b$, $2y$ of cost 4 to 14, or argon2id); empty for a user who has to get a new password")
		}
	}
	if a.Active, err = activeFrom(fields); err != nil {
		return a, err
	}
	for name, into := range map[string]*time.Time{"created_at": &a.CreatedAt, "last_login": &a.LastLogin} {
		if *into, err = instantFrom(fields[name]); err != nil {
			return a, fmt.Errorf("%s: %w", name, err)
		}
	}
	return a, nil
}

// activeFrom takes a user for active where nothing is said of it at all, and for
// inactive where the value is empty: that is how PostgreSQL exports a NULL, and
// active means IS TRUE.
func activeFrom(fields map[string]string) (bool, error) {
	text, said := fields["is_active"]
	switch strings.ToLower(text) {
	case "":
		return !said, nil
	case "true", "t", "1", "yes":
		return true, nil
	case "false", "f", "0", "no":
		return false, nil
	}
	return false, errors.New("is_active: must be true or false")
}

// instantFrom reads RFC 3339, and the way in which PostgreSQL prints a timestamptz.
func instantFrom(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05Z07", "2006-01-02 15:04:05Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() > 0 && t.Year() < 10000 {
			return t, nil
		}
	}
	return time.Time{}, errors.New("must be a time with its zone, such as 2026-01-31T09:00:00Z")
}

// foldASCII is the folding by which the database keeps addresses apart.
func foldASCII(text string) string {
	b := []byte(text)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
