package login

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

// What the strict decoder accepts means the same to encoding/json.
func FuzzDecodeAgreesWithTheStandardLibrary(f *testing.F) {
	for _, seed := range []string{
		`{"email":"a","password":"b"}`, `{"email":"a","email":"b"}`, `{"Email":"a"}`, `{"email":"\ud800"}`,
		`{"password":"\u0000"}`, `{"password":null}`, `{"x":{"password":1}}`, `{} {}`, `null`, "\ufeff{}", `{"password":"` + "\xff" + `"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := decode(body, "email", "password")
		if err != nil || len(body) == 0 {
			return
		}
		var want struct {
			Email    any `json:"email"`
			Password any `json:"password"`
		}
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("%q was accepted, but: %v", body, err)
		}
		for name, meant := range map[string]any{"email": want.Email, "password": want.Password} {
			text, isText := meant.(string)
			if v := got[name]; v.isText != isText || v.text != text {
				t.Errorf("%s of %q is %+v, but means %#v", name, body, v, meant)
			}
		}
	})
}

// A password is taken as it is or not at all: every valid one comes out as it
// went in, however it was escaped, and no other comes out. Two that differ can
// therefore never become equal.
func FuzzAPasswordIsTakenAsItIs(f *testing.F) {
	for _, seed := range []string{"words", "", "\x00", "\ufffd", "\xff", "\xed\xa0\x80", "\U0001F511", `"\/`, "caf\u00e9", "cafe\u0301"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, words string) {
		raw := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(words)
		plain := strings.IndexFunc(words, func(r rune) bool { return r < ' ' }) < 0
		got, err := decode([]byte(`{"password":"`+raw+`"}`), "password")
		if taken := err == nil; taken != (plain && utf8.ValidString(words)) || taken && got["password"].text != words {
			t.Errorf("%q, as it is: %+v, %v", words, got, err)
		}
		if !utf8.ValidString(words) {
			return
		}
		var escaped strings.Builder
		for _, unit := range utf16.Encode([]rune(words)) {
			escaped.WriteString(`\u`)
			for shift := 12; shift >= 0; shift -= 4 {
				escaped.WriteByte("0123456789abcdef"[unit>>shift&15])
			}
		}
		if got, err = decode([]byte(`{"password":"`+escaped.String()+`"}`), "password"); err != nil || got["password"].text != words {
			t.Errorf("%q, escaped: %+v, %v", words, got, err)
		}
	})
}
