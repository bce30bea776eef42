package supabase

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/atenex/gatehouse/internal/identity"
)

// longestAnswer bounds what is read of an answer.
const longestAnswer = 1 << 20

// call sends a JSON body, if there is one, and reads the answer into out, if that
// is wanted.
func (c *Client) call(ctx context.Context, method, path string, body, out any) error {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return broken("a body that cannot be encoded")
		}
		content = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return broken("an address that cannot be called")
	}
	// Auth reads the one, the gateway before it the other. No API version is asked
	// for: from 2024 on, an address that two ask for at once cannot be told from a
	// broken database.
	r.Header.Set("Authorization", "Bearer "+c.key)
	r.Header.Set("apikey", c.key)
	r.Header.Set("Accept", "application/json")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	a, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("calling Supabase: %w", cause(err))
	}
	defer func() { _ = a.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(a.Body, longestAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("reading Supabase's answer: %w", err)
	case len(text) > longestAnswer:
		return broken("an answer of more than 1 MiB")
	case a.StatusCode < 200 || a.StatusCode > 299:
		return refused(a.StatusCode, text)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return broken("an answer that is not what was asked for")
	}
	return nil
}

// cause is err without the URL, which holds the name of a company.
func cause(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}

func broken(what string) error {
	return fmt.Errorf("%w: Supabase gave %s", identity.ErrRegistrationBroken, what)
}

// fault is an error body of Auth, of PostgREST, or of PostgreSQL passed through.
type fault struct {
	Code      any    `json:"code"` // a number or, from PostgreSQL, a text
	ErrorCode string `json:"error_code"`
	Message   string `json:"message"`
	Weak      struct {
		Reasons []string `json:"reasons"`
	} `json:"weak_password"`
}

var (
	codeForm = regexp.MustCompile(`^[A-Za-z0-9_]{1,40}$`)
	// ownForm is what an operator's trigger or constraint answers with.
	ownForm = regexp.MustCompile(`^(P0001|23[0-9A-Z]{3}|PT[0-9]{3})$`)
)

// refused is what an answer that is no success means for us. It says the status and
// the code, and nothing else of it.
func refused(status int, text []byte) error {
	var f fault
	_ = json.Unmarshal(text, &f) // some are no JSON
	code := f.ErrorCode
	if code == "" {
		code, _ = f.Code.(string)
	}
	if !codeForm.MatchString(code) {
		code = "no code"
	}
	answered := fmt.Errorf("Supabase answered %d (%s)", status, code) //nolint:staticcheck // a name
	switch {
	case code == "email_exists", code == "phone_exists", code == "23505" && ofUsers(f.Message):
		return identity.ErrEmailTaken
	case code == "weak_password":
		return &identity.WeakPasswordError{Reasons: f.Weak.Reasons}
	case status == http.StatusTooManyRequests:
		return fmt.Errorf("%w: %w", identity.ErrRegistrationBusy, answered)
	case status == http.StatusRequestEntityTooLarge, status == http.StatusBadRequest && code == "validation_failed":
		return fmt.Errorf("%w: %w", identity.ErrRegistrationData, answered)
	case code == "bad_json", ownForm.MatchString(code):
		return fmt.Errorf("%w: %w", identity.ErrRegistrationBroken, answered)
	}
	// A key that is refused too: it is ours, and nothing that the client sent.
	return answered
}

// ofUsers reports that a duplicate is one of the users table's, made by two at
// once: Auth answers so and not with email_exists.
func ofUsers(message string) bool {
	for _, constraint := range []string{"users_email_partial_key", "users_phone_key", "users_pkey"} {
		if strings.Contains(message, constraint) {
			return true
		}
	}
	return false
}
