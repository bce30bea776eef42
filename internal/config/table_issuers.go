package config

func issuerRows() []row {
	return []row{
		{
			name: "ISSUERS_FILE", by: verifying, names: always,
			meaning: "A file of other issuers whose tokens are accepted beside our own ([manual](issuers.md)); a relative name is of the working directory. It is read anew when it changes and on SIGHUP. Unset: none.",
			read:    into(printable(4096), func(s *Settings) *string { return &s.Tokens.IssuersFile }),
		},
	}
}

// always is for texts that are the name of a file, whatever they are.
func always(string) bool { return true }
