// Package supabase makes users in a Supabase project: through the admin API of its
// Auth server, and the REST interface of its database.
//
// It must never know who asked, and it repeats nothing of what Supabase says but
// codes: the texts name hosts, constraints and addresses.
package supabase

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
)

const (
	lookupTime = 3 * time.Second
	// createTime: the Auth server itself gives up after 10 s, which is longer than
	// a request of ours may take with what follows.
	createTime = 6 * time.Second
	mailTime   = 4 * time.Second

	// longestPassword is in bytes. Auth ends a longer one with a 500.
	longestPassword = 72

	// An answer about a new address comes later than one about a taken one, by the
	// hash that Auth makes. leastEven and mostEven bound what hides that.
	leastEven = time.Second
	mostEven  = 3 * time.Second
)

// Options are the choices of a Client.
type Options struct {
	URL *url.URL // of the project
	// ServiceRoleKey is a secret.
	ServiceRoleKey string
	// EmailConfirm makes users whose address counts as theirs, unasked.
	EmailConfirm bool
	// Transport is for tests; nil: one with bounds of its own.
	Transport http.RoundTripper
}

// Client is safe for simultaneous use.
type Client struct {
	base    string
	key     string
	confirm bool
	http    *http.Client

	mu      sync.Mutex
	slowest time.Duration // of the creations of late
}

// New returns a client. It calls nobody.
func New(o Options) (*Client, error) {
	if o.URL == nil || o.URL.Host == "" || o.ServiceRoleKey == "" {
		return nil, errors.New("a Supabase project needs a URL and a service role key")
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{
			MaxConnsPerHost: 16, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
			TLSHandshakeTimeout: 3 * time.Second, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
		}
	}
	return &Client{
		base:    strings.TrimSuffix(o.URL.Scheme+"://"+o.URL.Host+o.URL.EscapedPath(), "/"),
		key:     o.ServiceRoleKey,
		confirm: o.EmailConfirm,
		http: &http.Client{
			Transport: o.Transport,
			// The key would be carried to wherever somebody points.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// CompanyByName finds a company. identity.ErrNotFound: there is none of that name.
func (c *Client) CompanyByName(ctx context.Context, name string) (identity.CompanyID, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	var rows []struct {
		ID string `json:"id"`
	}
	// A space is %20: not everybody reads + as one.
	query := "?select=id&name=eq." + strings.ReplaceAll(url.QueryEscape(name), "+", "%20") + "&limit=1"
	if err := c.call(ctx, http.MethodGet, "/rest/v1/companies"+query, nil, &rows); err != nil {
		return identity.CompanyID{}, err
	}
	if len(rows) == 0 {
		return identity.CompanyID{}, identity.ErrNotFound
	}
	id, err := identity.ParseCompanyID(rows[0].ID)
	if err != nil || id.IsZero() {
		return identity.CompanyID{}, broken("a company without a UUID for an id")
	}
	return id, nil
}

// newUser is what Auth is asked to make. What is not for the user to change is
// app_metadata.
type newUser struct {
	Email        string         `json:"email"`
	Password     string         `json:"password"`
	EmailConfirm bool           `json:"email_confirm"`
	UserMetadata map[string]any `json:"user_metadata"`
	AppMetadata  map[string]any `json:"app_metadata"`
}

// Register makes a user, and is done by even about as long as it can take.
func (c *Client) Register(ctx context.Context, r identity.Registration) (made identity.Registered, even time.Time, err error) {
	if r.InvitationToken != "" {
		return made, even, broken("an invitation, which is not Supabase's to know")
	}
	if len(r.Password) > longestPassword {
		return made, even, password.ErrTooLong
	}
	start := time.Now()
	even = start.Add(c.hold() + rand.N(50*time.Millisecond)) //nolint:gosec // noise on a clock, no secret
	ctx, cancel := context.WithTimeout(ctx, createTime)
	defer cancel()
	ask := newUser{
		Email: r.Email, Password: r.Password, EmailConfirm: c.confirm,
		UserMetadata: map[string]any{}, AppMetadata: map[string]any{"roles": []string{cmp.Or(r.Role, "user")}},
	}
	if r.FullName != "" {
		ask.UserMetadata["name"] = r.FullName
	}
	if !r.Company.IsZero() {
		ask.AppMetadata["company_id"] = r.Company.String()
	}
	var user struct {
		ID          string `json:"id"`
		ConfirmedAt string `json:"email_confirmed_at"`
	}
	if err := c.call(ctx, http.MethodPost, "/auth/v1/admin/users", ask, &user); err != nil {
		return made, even, err
	}
	c.took(time.Since(start))
	if made.User, err = identity.ParseUserID(user.ID); err != nil || made.User.IsZero() {
		return made, even, broken("a user without a UUID for an id")
	}
	made.Confirmed = user.ConfirmedAt != ""
	return made, even, nil
}

// Welcome asks for the mail by which a user proves that its address is its own,
// unless that is settled, and makes its profile.
func (c *Client) Welcome(ctx context.Context, made identity.Registered, email string) (mail, profile error) {
	if !made.Confirmed {
		// That this is answered well proves nothing: it is without a mail server too.
		ctx, cancel := context.WithTimeout(ctx, mailTime)
		mail = c.call(ctx, http.MethodPost, "/auth/v1/resend", map[string]string{"type": "signup", "email": email}, nil)
		cancel()
	}
	profile = c.call(ctx, http.MethodPost, "/rest/v1/rpc/create_public_profile_for_user", map[string]string{"user_id": made.User.String()}, nil)
	return mail, profile
}

// hold is how long an answer about any address takes.
func (c *Client) hold() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return min(max(leastEven, c.slowest*3/2), mostEven)
}

// took lets hold follow the slowest creation, and come down again slowly.
func (c *Client) took(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slowest = max(d, c.slowest*9/10)
}
