package identity_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/identity"
)

func TestWhatAnEmailAddressIs(t *testing.T) {
	host := strings.Repeat(strings.Repeat("d", 63)+".", 3) // 192 characters
	tests := []struct {
		name string
		text string
		want bool
	}{
		{"an ordinary address is taken", "ada.lovelace+work@mail.example.com", true},
		{"every punctuation of RFC 5322's atoms is taken", "!#$%&'*+-/=?^_`{|}~@example.com", true},
		{"other scripts are taken", "用户@例子.公司", true},
		{"combining marks are taken", "jose\u0301@example.com", true},
		{"a punycode domain is taken", "a@xn--bcher-kva.example", true},
		{"254 characters are taken", strings.Repeat("l", 58) + "@" + host + "com", true},
		{"255 characters are refused", strings.Repeat("l", 59) + "@" + host + "com", false},
		{"a local part of 64 characters is taken", strings.Repeat("l", 64) + "@example.com", true},
		{"a local part of 65 characters is refused", strings.Repeat("l", 65) + "@example.com", false},
		{"nothing is refused", "", false},
		{"no at sign is refused", "example.com", false},
		{"two at signs are refused", "a@b@example.com", false},
		{"no local part is refused", "@example.com", false},
		{"no domain is refused", "a@", false},
		{"a domain without a dot is refused", "a@localhost", false},
		{"a domain that ends in a dot is refused", "a@example.com.", false},
		{"an empty label is refused", "a@example..com", false},
		{"a label that begins with a hyphen is refused", "a@-example.com", false},
		{"a label that ends with a hyphen is refused", "a@example-.com", false},
		{"a label of 64 characters is refused", "a@" + strings.Repeat("d", 64) + ".com", false},
		{"an address literal is refused", "a@[192.0.2.1]", false},
		{"a dot at the start is refused", ".a@example.com", false},
		{"two dots in a row are refused", "a..b@example.com", false},
		{"a quoted local part is refused", `"a b"@example.com`, false},
		{"a display name is refused", "Ada <ada@example.com>", false},
		{"surrounding space is refused", " ada@example.com", false},
		{"a no-break space is refused", "ada\u00a0@example.com", false},
		{"a zero-width space is refused", "ada\u200b@example.com", false},
		{"a text-direction mark is refused", "ada\u202e@example.com", false},
		{"a NUL is refused", "ada\x00@example.com", false},
		{"a line break is refused", "ada@example.com\n", false},
		{"DEL is refused", "ada\x7f@example.com", false},
		{"invalid UTF-8 is refused", "ada\xff@example.com", false},
		{"the replacement character is refused", "ada\ufffd@example.com", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := identity.CheckEmail(tt.text)
			if got := err == nil; got != tt.want || err != nil && !errors.Is(err, identity.ErrNotEmail) {
				t.Errorf("CheckEmail(%q) = %v, want accepted: %v", tt.text, err, tt.want)
			}
		})
	}
}
