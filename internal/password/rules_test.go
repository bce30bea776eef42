package password_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/atenex/gatehouse/internal/password"
)

func TestWhatANewPasswordMayBe(t *testing.T) {
	known := []string{"ada@example.com", "Ada Lovelace", "", "Gatehouse"}
	tests := []struct {
		name string
		text string
		want error
	}{
		{"a phrase is taken", "an engine of many wheels", nil},
		{"spaces alone are taken", strings.Repeat(" ", 9), nil},
		{"eight characters are taken", "\u00e9ng\u00efn\u00e9s!", nil},
		{"1024 characters are taken", strings.Repeat("\u00e9", 1024), nil},
		{"nothing is refused", "", password.ErrShort},
		{"seven characters of more bytes are refused", strings.Repeat("\u00e9", 7), password.ErrShort},
		{"1025 characters are refused", strings.Repeat("x", 1025), password.ErrLong},
		{"a NUL is refused", "an engine\x00", password.ErrHoldsNUL},
		{"invalid UTF-8 is refused", "an engine\xff", password.ErrNotUTF8},
		{"the user's email is refused in any case", "ADA@example.com", password.ErrGuessable},
		{"the user's name is refused in any case", "ada lovelace", password.ErrGuessable},
		{"the product's name is refused", "gatehouse", password.ErrGuessable},
		{"what only begins with a known word is taken", "gatehouse of many wheels", nil},
		{"a common password is refused", "password123", password.ErrCommon},
		{"a common password is refused in any case", "PassWord123", password.ErrCommon},
		{"common digits are refused", "12345678", password.ErrCommon},
		{"a common password of other letters is refused", "11111111", password.ErrCommon},
		{"a common password with something behind it is taken", "password123 password123", nil},
		{"two common passwords on two lines are taken", "password123\npassword12", nil},
		{"a newline alone is no line of the list", "\n\n\n\n\n\n\n\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := password.CheckNew(tt.text, known...)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err != nil && tt.text != "" && strings.Contains(err.Error(), tt.text) {
				t.Errorf("the reason repeats the password: %v", err)
			}
		})
	}
}

func TestEveryLineOfTheListIsFound(t *testing.T) {
	text, err := os.ReadFile("common.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != 10_000 || !slices.IsSorted(lines) || len(slices.Compact(slices.Clone(lines))) != len(lines) {
		t.Fatalf("%d lines; want 10,000, sorted and each once", len(lines))
	}
	for _, line := range lines {
		if utf8.RuneCountInString(line) < password.ShortestNew || line != strings.ToLower(line) {
			t.Errorf("%q can never be asked for", line)
		}
		if err := password.CheckNew(line); !errors.Is(err, password.ErrCommon) {
			t.Errorf("%q: got %v", line, err)
		}
		if err := password.CheckNew(line + "\u00b7"); err != nil {
			t.Errorf("%q and a dot: got %v", line, err)
		}
	}
}
