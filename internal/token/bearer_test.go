package token_test

import (
	"errors"
	"testing"

	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
)

func TestBearerTakesOneTokenOutOfOneHeader(t *testing.T) {
	cases := []struct {
		name   string
		values []string
		want   string // empty: not authenticated
	}{
		{"the usual form", []string{"Bearer a.b.c"}, "a.b.c"},
		{"the scheme in lower case", []string{"bearer a.b.c"}, "a.b.c"},
		{"the scheme in any case", []string{"bEaReR a.b.c"}, "a.b.c"},
		{"several spaces", []string{"Bearer   a.b.c"}, "a.b.c"},
		{"a token that is none, which is not judged here", []string{"Bearer x y"}, "x y"},
		{"no header", nil, ""},
		{"an empty header", []string{""}, ""},
		{"the scheme alone", []string{"Bearer"}, ""},
		{"the scheme and a space", []string{"Bearer "}, ""},
		{"the scheme and spaces", []string{"Bearer    "}, ""},
		{"a token alone", []string{"a.b.c"}, ""},
		{"another scheme", []string{"Basic YTpi"}, ""},
		{"a scheme that begins alike", []string{"BearerX a.b.c"}, ""},
		{"no space", []string{"Bearera.b.c"}, ""},
		{"a tab", []string{"Bearer\ta.b.c"}, ""},
		{"a space in front", []string{" Bearer a.b.c"}, ""},
		{"a scheme that folds to Bearer in Unicode only", []string{"Bearer\u212a a.b.c"}, ""},
		{"two headers", []string{"Bearer a.b.c", "Bearer a.b.c"}, ""},
		{"two headers, one of them empty", []string{"Bearer a.b.c", ""}, ""},
		{"two headers joined by a proxy", []string{"Bearer a.b.c,Bearer d.e.f"}, ""},
		{"an empty header joined to another by a proxy", []string{",Bearer a.b.c"}, ""},
		{"two schemes joined", []string{"Basic YTpi, Bearer a.b.c"}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := token.Bearer(c.values)
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if refused := errors.Is(err, problem.NotAuthenticated); refused != (c.want == "") {
				t.Errorf("got error %v", err)
			}
		})
	}
}
