// Package token reads and writes the bearer tokens of Gatehouse: signed JSON
// Web Tokens (RFC 7519) in the compact form of RFC 7515.
//
// Everything that is spelled like a JWT stays in here: past [Verifier.Verify]
// there are only the words of package identity, and every refusal is one of
// package problem. It must never know where a token came from, whether its user
// still exists, what a route asks for, or how anything is stored; it reads no
// environment, no file and no clock.
//
// golang-jwt supplies the signature methods and nothing else. Its parser takes
// duplicate members (the last one wins), unknown critical headers, a missing
// exp and several spellings of one signature; the structure is therefore read
// here, so that an accepted token has one meaning and one spelling. (The one
// exception is inherent: an ECDSA signature (r, s) has the twin (r, -s), and
// issuers send either.)
package token

import "time"

// Profile is whose tokens are read: which claims carry the company and the
// roles.
type Profile int

const (
	// Native tokens carry the company in "company_id" and no roles.
	Native Profile = iota
	// Supabase tokens carry both in "app_metadata", which only administrators
	// can write ("user_metadata" is the user's own and is never read), and must
	// have the role "authenticated".
	Supabase
)

// String is what the profile is called where it is recorded.
func (p Profile) String() string {
	if p == Supabase {
		return "supabase"
	}
	return "native"
}

// supabaseAudience and supabaseRole are what Supabase writes into the token of
// every signed-in user; its API keys carry other roles and no audience.
const (
	supabaseAudience = "authenticated"
	supabaseRole     = "authenticated"
)

// Rules is what a token is held against, and what tokens of our own are made
// from.
type Rules struct {
	Profile  Profile
	Keys     *KeySet
	Audience string        // empty: not asked for; Supabase: "authenticated"
	Issuer   string        // empty: not asked for
	Leeway   time.Duration // clock skew allowed on exp, nbf and iat

	// Await is told of a token that names a key which another issuer may have
	// published meanwhile. It returns when it is worth looking again, after a
	// bounded time; nil: there is nobody to ask.
	Await func(kid string)
}

// complete fills in what a profile implies.
func (r Rules) complete() Rules {
	if r.Profile == Supabase && r.Audience == "" {
		r.Audience = supabaseAudience
	}
	return r
}
