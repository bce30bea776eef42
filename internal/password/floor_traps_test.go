package password_test

import (
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/password"
)

// M5: the schemes of one table are a factor of ten apart, so that no decoy stands in
// for all of them. A row that costs more than whatever was measured before lifts the
// floor under every refusal as soon as it is met once, whatever came of it.
func TestM5ARowThatCostsMoreLiftsTheFloor(t *testing.T) {
	h, err := password.New(password.Options{Argon2id: password.Argon2idCost{MemoryKiB: 64, Passes: 1, Lanes: 1}})
	if err != nil {
		t.Fatal(err)
	}
	before := h.Floor()
	permit, err := h.Admit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer permit.Release()
	// The highest cost that is ever computed: about a second.
	dear := "$2b$14$" + strings.Repeat("C", 21) + "." + strings.Repeat("E", 31)
	if permit.Verify(dear, "test-password-that-is-wrong").OK {
		t.Fatal("it is the password")
	}
	if after := h.Floor(); after <= before {
		t.Errorf("the floor stays at %v, and was %v", after, before)
	}
}
