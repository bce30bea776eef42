package wiring

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/issuers"
	"github.com/atenex/gatehouse/internal/token"
)

const issuersSetting = "GATEWAY_ISSUERS_FILE"

// Issuers has the verifier trust the issuers that the settings name, and returns
// them; nil: none are named. Of o only what is not in the settings has to be filled
// in. Its error is one of the settings.
func Issuers(s *config.Settings, verifier *token.Verifier, o issuers.Options) (*issuers.Book, error) {
	if s.Tokens.IssuersFile == "" {
		return nil, nil
	}
	book, err := issuers.Open(fromSettings(s, verifier, o))
	if err != nil {
		return nil, wrongIssuers(err)
	}
	return book, nil
}

func fromSettings(s *config.Settings, verifier *token.Verifier, o issuers.Options) issuers.Options {
	o.File, o.Verifier, o.OwnURL = s.Tokens.IssuersFile, verifier, s.Tokens.JWKSURL
	o.SkipUserCheck = s.Checks.User == config.CheckOff
	o.Proxy = http.ProxyFromEnvironment
	return o
}

// WatchIssuers looks after them, if there are any, until ctx ends.
func WatchIssuers(ctx context.Context, book *issuers.Book) {
	if book == nil {
		return
	}
	hangups := make(chan os.Signal, 1) // the key ring takes the process's own
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	book.Run(ctx, hangups)
}

func issuerFaults(s *config.Settings, _ config.Need) config.Faults {
	if s.Tokens.IssuersFile == "" {
		return nil
	}
	verifier, err := ownVerifier(s.Tokens)
	if err == nil {
		err = issuers.Check(fromSettings(s, verifier, issuers.Options{}))
	}
	faults, _ := errors.AsType[config.Faults](wrongIssuers(err))
	return faults
}

// ownVerifier holds the file against the keys of our own. Where those are wrong, which
// is told by itself, it is held against none.
func ownVerifier(t config.Tokens) (*token.Verifier, error) {
	keys, err := sources(t).KeySet()
	if err != nil {
		if keys, err = (token.Sources{Algorithm: "HS256", Remote: true}).KeySet(); err != nil {
			return nil, err
		}
	}
	return token.NewVerifier(rules(t, keys))
}

func wrongIssuers(err error) error {
	if err == nil {
		return nil
	}
	found, several := errors.AsType[issuers.Faults](err)
	if !several {
		return config.Faults{{Setting: issuersSetting, Problem: err.Error()}}
	}
	faults := make(config.Faults, len(found))
	for i, f := range found {
		faults[i] = config.Fault{Setting: issuersSetting, Problem: f.Error()}
	}
	return faults
}
