package token

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/atenex/gatehouse/internal/identity"
)

// Grant is what a new token is to say.
type Grant struct {
	User    identity.UserID
	Email   string             // empty: left out
	Company identity.CompanyID // zero: left out
	// Roles go into tokens of the Supabase profile only; native roles are the
	// database's to tell.
	Roles []string
	// Session is the login that the token belongs to; zero: none.
	Session identity.SessionID
	// AuthTime is when the password of that login was proved; zero: left out.
	AuthTime time.Time
	// NotAfter is the absolute end of that login, which no token outlives;
	// zero: none.
	NotAfter time.Time
}

// Minted is a new token.
type Minted struct {
	Token     string
	ExpiresAt time.Time // in whole seconds, as the token says it
}

// Issuer makes tokens that a Verifier with the same rules accepts. It may be
// used by several goroutines.
type Issuer struct {
	rules Rules // but for the keys
	key   atomic.Pointer[Key]
	ttl   time.Duration
}

// NewIssuer needs a key that can sign and a life of at least a second.
func NewIssuer(rules Rules, ttl time.Duration) (*Issuer, error) {
	if rules.Keys == nil {
		return nil, errors.New("an issuer needs keys")
	}
	if ttl < time.Second {
		return nil, fmt.Errorf("a token life of %s is too short", ttl)
	}
	i := &Issuer{rules: rules.complete(), ttl: ttl}
	if err := i.Replace(rules.Keys); err != nil {
		return nil, err
	}
	return i, nil
}

// Replace signs with the signing key of another set from now on. One that has
// none is refused, and changes nothing.
func (i *Issuer) Replace(keys *KeySet) error {
	key, ok := keys.Signer()
	if !ok {
		return ErrNoSigner
	}
	i.key.Store(&key)
	return nil
}

// ErrNoSigner is that of a key set with which tokens can be verified only.
var ErrNoSigner = errors.New(`no key that can sign: a shared secret, a private key or a JWK with "key_ops":["sign"] is needed`)

type joseHeader struct {
	Algorithm string `json:"alg"`
	Type      string `json:"typ"`
	KeyID     string `json:"kid"`
}

// payload is spelled for the clients of the replaced gateways too, which read
// sub, exp, iat, email and company_id.
type payload struct {
	Subject     string       `json:"sub"`
	ExpiresAt   int64        `json:"exp"`
	IssuedAt    int64        `json:"iat"`
	Email       string       `json:"email,omitzero"`
	Company     string       `json:"company_id,omitzero"`
	Issuer      string       `json:"iss,omitzero"`
	Audience    string       `json:"aud,omitzero"`
	ID          string       `json:"jti"`
	Session     string       `json:"sid,omitzero"`
	AuthTime    int64        `json:"auth_time,omitzero"`
	Role        string       `json:"role,omitzero"`
	AppMetadata *appMetadata `json:"app_metadata,omitzero"`
}

type appMetadata struct {
	Company string   `json:"company_id,omitzero"`
	Roles   []string `json:"roles,omitzero"`
}

// Issue signs a token. Times are cut to whole seconds, so that the token is
// never issued in the future nor valid past what was asked for.
func (i *Issuer) Issue(g Grant, now time.Time) (Minted, error) {
	if g.User.IsZero() {
		return Minted{}, errors.New("a token for nobody")
	}
	expires := now.Add(i.ttl)
	if !g.NotAfter.IsZero() && g.NotAfter.Before(expires) {
		expires = g.NotAfter
	}
	p := payload{
		Subject:   g.User.String(),
		ExpiresAt: expires.Unix(),
		IssuedAt:  now.Unix(),
		Email:     g.Email,
		Issuer:    i.rules.Issuer,
		Audience:  i.rules.Audience,
		ID:        rand.Text(), // at least 128 bits
	}
	if p.ExpiresAt <= p.IssuedAt {
		return Minted{}, errors.New("the login that the token belongs to is over")
	}
	if !g.Company.IsZero() {
		p.Company = g.Company.String()
	}
	if !g.Session.IsZero() {
		p.Session = g.Session.String()
	}
	if !g.AuthTime.IsZero() {
		// By another clock, the database's: nobody can have proved a password
		// after the token for it was issued.
		p.AuthTime = min(g.AuthTime.Unix(), p.IssuedAt)
	}
	if i.rules.Profile == Supabase {
		p.Role = supabaseRole
		p.AppMetadata = &appMetadata{Company: p.Company, Roles: g.Roles}
	}

	key := i.key.Load()
	head, err := json.Marshal(joseHeader{Algorithm: key.Algorithm(), Type: "JWT", KeyID: key.ID()})
	if err != nil {
		return Minted{}, fmt.Errorf("writing the header of a token: %w", err)
	}
	body, err := json.Marshal(p)
	if err != nil {
		// The error names the member that does not encode, never its value.
		return Minted{}, errors.New("writing the claims of a token: a text is not valid UTF-8")
	}
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64(head) + "." + b64(body)
	signature, err := key.sign(signed)
	if err != nil {
		return Minted{}, fmt.Errorf("signing a token: %w", err)
	}
	return Minted{Token: signed + "." + b64(signature), ExpiresAt: time.Unix(p.ExpiresAt, 0).UTC()}, nil
}
