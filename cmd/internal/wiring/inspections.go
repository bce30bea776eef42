package wiring

import (
	"errors"
	"os"
	"path/filepath"

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
			Need: config.NeedAuthz | config.NeedLogin | config.NeedVerify | config.NeedSign | config.NeedUp,
			Of:   []string{"JWT_KEYS"},
			Find: func(s *config.Settings, _ config.Need) config.Faults { return setFaults(s.Tokens) },
		},
		{
			Need: config.NeedAuthz | config.NeedLogin | config.NeedVerify | config.NeedSign | config.NeedUp,
			Of:   []string{"ISSUERS_FILE", "JWT_ISSUER", "TOKEN_PROFILE", "USER_CHECK"},
			Find: issuerFaults,
		},
		{
			Need: config.NeedAuthz | config.NeedUp,
			Of:   []string{"DECISION_LOG"},
			Find: decisionLogFaults,
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

// setFaults is what is wrong with the JWK set by itself, whatever the algorithm of new
// tokens is.
func setFaults(t config.Tokens) config.Faults {
	if t.Keys.IsZero() {
		return nil
	}
	if _, err := (token.Sources{Algorithm: "HS256", JWKSet: []byte(t.Keys.Reveal())}).KeySet(); err != nil {
		return wrongKeys(t, err)
	}
	return nil
}

// decisionLogFaults sees what can be seen without making a file.
func decisionLogFaults(s *config.Settings, _ config.Need) config.Faults {
	name := s.DecisionLog.To
	if name == "" || name == config.DecisionsStdout {
		return nil
	}
	problem := ""
	if at, err := os.Stat(name); err == nil && at.IsDir() {
		problem = "is a directory"
	} else if dir, err := os.Stat(filepath.Dir(name)); err != nil || !dir.IsDir() {
		problem = "lies in no directory that is there: " + filepath.Dir(name)
	}
	if problem == "" {
		return nil
	}
	return config.Faults{{Setting: "GATEWAY_DECISION_LOG", Problem: problem}}
}

func keyFaults(s *config.Settings, need config.Need) config.Faults {
	t := s.Tokens
	if len(setFaults(t)) > 0 {
		return nil // they are told
	}
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
