package config

import "strings"

// Need says what the caller is about to do with the settings. A wrong value is
// refused whoever reads it; a missing one only where it is needed, and a file
// that holds a secret is opened only by those who use that secret.
type Need uint

// What can be needed. The values are bits.
const (
	NeedAuthz    Need = 1 << iota // run the authz service
	NeedLogin                     // run the login service
	NeedEnvoy                     // render Envoy's configuration
	NeedDatabase                  // work on the database, as the operator's commands do
	NeedVerify                    // read tokens, as `gatehouse token inspect` does
	NeedSign                      // make tokens, as `gatehouse token mint` does
	// NeedUp reads everything and requires nothing: `gatehouse up` and `doctor`
	// look first, fill in what is missing and load again.
	NeedUp
)

const (
	services  = NeedAuthz | NeedLogin
	verifying = services | NeedVerify | NeedSign
	signing   = NeedLogin | NeedSign
	storing   = services | NeedDatabase
	everybody = services | NeedEnvoy | NeedDatabase | NeedVerify | NeedSign
)

// String lists the readers as the manual names them.
func (n Need) String() string {
	if n&everybody == everybody {
		return "all"
	}
	var words []string
	if n&NeedAuthz != 0 {
		words = append(words, "authz")
	}
	if n&NeedLogin != 0 {
		words = append(words, "login")
	}
	if n&NeedEnvoy != 0 {
		words = append(words, "envoy")
	}
	if n&(NeedDatabase|NeedVerify|NeedSign|NeedUp) != 0 {
		words = append(words, "gatehouse")
	}
	return strings.Join(words, ", ")
}
