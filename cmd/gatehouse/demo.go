package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/atenex/gatehouse/internal/atomicfile"
	"github.com/atenex/gatehouse/internal/devstack"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/internal/postgres"
)

// demo is what demo mode keeps from one run to the next, in the state
// directory, for its owner alone.
type demo struct {
	Email       string `json:"email"`
	Password    string `json:"password"`
	TokenSecret string `json:"token_secret"`

	file string
}

const demoCompany = "Demo company"

// openDemo reads the state of an earlier run or makes up a new one. Passwords
// and secrets are random: a demo that somebody forgets to stop is not an open
// door.
func openDemo(stateDir string) (*demo, error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state directory: %w", err)
	}
	file := filepath.Join(stateDir, "demo.json")
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		d := &demo{Email: "demo@example.com", Password: rand.Text(), TokenSecret: rand.Text() + rand.Text(), file: file}
		return d, d.save()
	}
	if err != nil {
		return nil, fmt.Errorf("reading the demo's state: %w", err)
	}
	d := &demo{file: file}
	// The decoder's error can quote what it read.
	if json.Unmarshal(text, d) != nil || d.Email == "" || d.Password == "" || d.TokenSecret == "" {
		return nil, fmt.Errorf("%s is damaged: remove it to start the demo anew", file)
	}
	return d, nil
}

// save writes a whole file or none.
func (d *demo) save() error {
	text, err := json.MarshalIndent(d, "", "  ") //nolint:gosec // the file is for its owner alone
	if err != nil {
		return err
	}
	return atomicfile.Write(d.file, append(text, '\n'), 0o600)
}

// seed makes the demo company and user where they are missing. Somebody else's
// user of that address is left as it is: the demo takes another address.
func (d *demo) seed(ctx context.Context, databaseURL string) error {
	store, err := postgres.Open(ctx, postgres.Options{URL: databaseURL, MaxConns: 1, AppName: appName})
	if err != nil {
		return err
	}
	defer store.Close()
	hasher, err := password.New(password.Options{})
	if err != nil {
		return err
	}
	switch account, err := store.AccountByEmail(ctx, d.Email); {
	case errors.Is(err, identity.ErrNotFound):
		return d.create(ctx, store, hasher)
	case err != nil:
		return err
	default:
		permit, err := hasher.Admit(ctx)
		if err != nil {
			return err
		}
		ours := permit.Verify(account.PasswordHash, d.Password).OK
		permit.Release()
		if ours {
			return nil
		}
	}
	d.Email = "demo-" + rand.Text()[:8] + "@example.com"
	if err := d.save(); err != nil {
		return err
	}
	return d.create(ctx, store, hasher)
}

func (d *demo) create(ctx context.Context, store *postgres.Store, hasher *password.Hasher) error {
	ctx = identity.WithOrigin(ctx, identity.Origin{Operator: operator()})
	hash, err := hasher.Hash(ctx, d.Password)
	if err != nil {
		return err
	}
	company, err := store.CreateCompany(ctx, demoCompany)
	if err != nil {
		return err
	}
	_, err = store.CreateUser(ctx, identity.Account{
		User:         identity.User{Email: d.Email, FullName: "Demo User", Role: "user", Company: company.ID, Active: true},
		PasswordHash: hash,
	})
	return err
}

// greet says, on standard output, how to use what runs now.
func (in *invocation) greet(p *upPlan, at devstack.Ready) {
	text := "\nGatehouse is ready: " + at.Gateway + "\n"
	if p.demo != nil {
		text += p.demo.firstSteps(curlTo(p.settings, at.Gateway))
	}
	text += in.share(p, at) + "Ctrl-C stops everything.\n"
	// At once, or what the parts write gets between the lines.
	fmt.Fprint(in.stdout, text)
}

// firstSteps is a login and a call that work as they stand. It is the one place
// where a demo password is shown. gateway is its URL, and before that what else curl
// has to be told.
func (d *demo) firstSteps(gateway string) string {
	return fmt.Sprintf(`
Sign in as the demo user:

  curl -s %[1]s/api/v1/users/login -H 'Content-Type: application/json' -d '{"email":"%[2]s","password":"%[3]s"}'

Call an upstream with the token, and a forged identity that never arrives:

  curl -s %[1]s/api/v1/query/hello -H 'X-User-ID: forged' -H "Authorization: Bearer $(curl -s %[1]s/api/v1/users/login -H 'Content-Type: application/json' -d '{"email":"%[2]s","password":"%[3]s"}' | python3 -c 'import json,sys; print(json.load(sys.stdin)["access_token"])')"

`, gateway, d.Email, d.Password)
}
