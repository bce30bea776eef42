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
	// Most of a second, under the race detector too, for which bcrypt takes a minute.
	dear := "$argon2id$v=19$m=131072,t=8,p=1$" + strings.Repeat("C", 21) + "A$" + strings.Repeat("E", 42) + "A"
	if permit.Verify(dear, "test-password-that-is-wrong").OK {
		t.Fatal("it is the password")
	}
	if after := h.Floor(); after <= before {
		t.Errorf("the floor stays at %v, and was %v", after, before)
	}
}
