package postgres_test

import (
	"testing"

	"github.com/atenex/gatehouse/internal/identity"
)

func TestHighestBcryptCostCountsOnlyWhatIsEverVerified(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", identity.CompanyID{})
	for _, c := range []struct {
		name string
		hash any
		want int
	}{
		{"no hash at all", nil, 0},
		{"another scheme", "$argon2id$v=19$m=32768,t=3,p=1$abc$def", 0},
		{"a prefix that is never verified", "$2x$12$abc", 0},
		{"a cost that is never verified", "$2b$15$abc", 0},
		{"a text that is no hash", "$2b$1", 0},
		{"the oldest prefix", "$2a$04$abc", 4},
		{"PHP's prefix", "$2y$14$abc", 14},
	} {
		t.Run(c.name, func(t *testing.T) {
			db.in(t).exec(`UPDATE users SET hashed_password = $1`, c.hash)
			if got, err := store.HighestBcryptCost(testContext(t)); got != c.want || err != nil {
				t.Errorf("HighestBcryptCost = %d, %v, want %d", got, err, c.want)
			}
		})
	}
	db.addUser(userID(2), "bob@example.com", identity.CompanyID{})
	db.exec(`UPDATE users SET hashed_password = '$2b$10$abc' WHERE id = $1`, userID(2).String())
	if got, err := store.HighestBcryptCost(testContext(t)); got != 14 || err != nil {
		t.Errorf("of two rows: %d, %v, want 14", got, err)
	}
}

func TestHashesAreCountedByScheme(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	for i, hash := range []any{"$2b$12$abc", "$2a$04$abc", "$2x$12$abc", "$2b$15$abc", "$argon2id$v=19$m=32768,t=3,p=1$abc$def", "$argon2i$v=19$", "!", "", nil} {
		db.addUser(userID(i+1), string(rune('a'+i))+"@example.com", identity.CompanyID{})
		db.exec(`UPDATE users SET hashed_password = $2 WHERE id = $1`, userID(i+1).String(), hash)
	}
	if got, err := store.CountHashes(testContext(t)); err != nil || got != (identity.HashCounts{Bcrypt: 2, Argon2id: 1}) {
		t.Errorf("counted %+v, %v", got, err)
	}
}
