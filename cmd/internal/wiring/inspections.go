package wiring

import (
	"errors"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/token"
)

// Inspections are what the parts find wrong with their settings before any of them is
// made, for config.Load.
func Inspections() []config.Inspection {
	return []config.Inspection{
		{
			Need: config.NeedAuthz | config.NeedLogin | config.NeedVerify | config.NeedSign | config.NeedUp,
			Of:   []string{"TOKEN_PROFILE", "JWT_SECRET", "JWT_ALGORITHM", "JWT_PUBLIC_KEY", "JWT_PRIVATE_KEY", "JWT_KEYS", "JWT_JWKS_URL"},
			Find: keyFaults,
		},
		{
			Need: config.NeedAuthz | config.NeedEnvoy | config.NeedUp,
			Of:   []string{"ROUTES"},
			Find: func(s *config.Settings, _ config.Need) config.Faults {
				_, err := RouteTable(s.Edge.Routes)
				faults, _ := errors.AsType[config.Faults](err)
				return faults
			},
		},
	}
}

func keyFaults(s *config.Settings, need config.Need) config.Faults {
	t := s.Tokens
	if t.Secret.IsZero() && t.PublicKey == "" && t.PrivateKey.IsZero() && t.Keys.IsZero() && t.JWKSURL == nil {
		return nil // which config itself knows to be a fault, or not yet one
	}
	keys, err := sources(t).KeySet()
	if err != nil {
		return wrongKeys(t, err)
	}
	if _, signs := keys.Signer(); !signs && need&(config.NeedLogin|config.NeedSign) != 0 {
		return wrongKeys(t, token.ErrNoSigner)
	}
	return nil
}

// wrongKeys names the setting of each fault.
func wrongKeys(t config.Tokens, err error) config.Faults {
	if faults, several := errors.AsType[token.KeyFaults](err); several {
		found := make(config.Faults, len(faults))
		for i, f := range faults {
			found[i] = config.Fault{Setting: "GATEWAY_JWT_KEYS", Problem: f}
		}
		return found
	}
	if joined, several := err.(interface{ Unwrap() []error }); several {
		var found config.Faults
		for _, one := range joined.Unwrap() {
			found = append(found, wrongKeys(t, one)...)
		}
		return found
	}
	setting := "GATEWAY_JWT_ALGORITHM"
	if !t.Keys.IsZero() {
		setting = "GATEWAY_JWT_KEYS"
	}
	if wrong, ok := errors.AsType[*token.PEMFault](err); ok {
		if err = wrong.Err; wrong.Half == token.PrivateHalf {
			setting = "GATEWAY_JWT_PRIVATE_KEY"
		} else {
			setting = "GATEWAY_JWT_PUBLIC_KEY"
		}
	}
	return config.Faults{{Setting: setting, Problem: err.Error()}}
}
