package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// newRoot puts the nouns together: one constructor each, in a file of its name.
func newRoot(in *invocation) *cobra.Command {
	root := &cobra.Command{
		Use:   "gatehouse",
		Short: "Run and look after the Gatehouse gateway",
		Long: `gatehouse runs and looks after the Gatehouse gateway.

Settings come from the environment (GATEWAY_...) and from .env in the working
directory; the environment wins.

Exit codes: 0 fine, 1 failed, 2 wrong use or wrong settings.`,
		Example: `  gatehouse up
  gatehouse migrate
  gatehouse user create ada@example.com --name "Ada Lovelace"
  gatehouse doctor`,
		SilenceErrors: true,
		SilenceUsage:  true,
		// unknownCommand makes them, for nouns too.
		DisableSuggestions: true,
		Version:            thisVersion().String(),
		RunE:               missingCommand,
	}
	root.SetVersionTemplate("gatehouse {{.Version}}\n")
	root.AddCommand(
		newMigrate(in),
		newUser(in),
		newCompany(in),
		newInvite(in),
		newSession(in),
		newToken(in),
		newAudit(in),
		newExplain(in),
		newReplay(in),
		newKey(in),
		newEnvoy(in),
		newDoctor(in),
		newUp(in),
		newDemoUpstream(in),
		newDemoUser(in),
		newInitSecrets(in),
		newVersion(in),
	)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; %s", err, helpHint(cmd))
	})

	// A call for the help of a command that does not exist is wrong use too.
	show := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
			in.help = unknownCommand(cmd, cmd.Flags().Arg(0))
			return
		}
		show(cmd, args)
	})
	root.SetHelpCommand(newHelp())
	return root
}

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND...]",
		Short: "Show the help of a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			at := cmd.Root()
			for _, name := range args {
				next := child(at, name)
				if next == nil {
					return unknownCommand(at, name)
				}
				at = next
			}
			at.InitDefaultHelpFlag()
			return at.Help()
		},
	}
}

func child(cmd *cobra.Command, name string) *cobra.Command {
	for _, c := range cmd.Commands() {
		if c.Name() == name || c.HasAlias(name) {
			return c
		}
	}
	return nil
}

// group makes a noun, which does nothing without a verb.
func group(noun *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	// Flags behind an unknown verb are the verb's: the verb is what to complain
	// about.
	noun.FParseErrWhitelist.UnknownFlags = true
	noun.RunE = missingCommand
	noun.AddCommand(verbs...)
	return noun
}

func missingCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(cmd, args[0])
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return fmt.Errorf("missing command for %q, one of: %s; %s", cmd.CommandPath(), strings.Join(names, ", "), helpHint(cmd))
}

func unknownCommand(cmd *cobra.Command, name string) error {
	const distance = 2 // letters, as in cobra's own suggestions for the root
	cmd.SuggestionsMinimumDistance = distance
	text := fmt.Sprintf("unknown command %q for %q", name, cmd.CommandPath())
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		text += fmt.Sprintf("; did you mean '%s %s'", cmd.CommandPath(), near[0])
	}
	return fmt.Errorf("%s; %s", text, helpHint(cmd))
}

// swallowed finds a flag without its value, for which the parser takes the flag
// behind it: 'explain --decision --request-id X' would look for a file of the name
// --request-id. A value that begins so is given with an equals sign.
func swallowed(root *cobra.Command, args []string) error {
	cmd, rest, err := root.Find(args)
	if err != nil {
		return nil //nolint:nilerr // it is told with the rest of what is wrong
	}
	known := cmd.Flags()
	for i := 0; i+1 < len(rest) && rest[i] != "--"; i++ {
		name, long := strings.CutPrefix(rest[i], "--")
		flag := known.Lookup(name)
		if !long {
			flag = nil
			if letter, dashed := strings.CutPrefix(rest[i], "-"); dashed && len(letter) == 1 {
				flag = known.ShorthandLookup(letter)
			}
		}
		if flag == nil || flag.NoOptDefVal != "" {
			continue // it takes no value, or has it in the same word
		}
		i++ // behind its value
		value := rest[i]
		letter, dashed := strings.CutPrefix(value, "-")
		if strings.HasPrefix(value, "--") || dashed && len(letter) == 1 && (letter == "h" || known.ShorthandLookup(letter) != nil) {
			return fmt.Errorf("--%s: its value is missing, %s comes next (one that begins so is written --%[1]s=VALUE); %[3]s", flag.Name, printable(value), helpHint(cmd))
		}
	}
	return nil
}

// plainly says what cobra found wrong with a command's name in our one line
// instead of its five.
func plainly(cmd *cobra.Command, err error) error {
	var name string
	if err == nil || strings.HasSuffix(err.Error(), "--help'") {
		return err // ours
	}
	if _, scanErr := fmt.Sscanf(err.Error(), "unknown command %q for", &name); scanErr != nil {
		return err
	}
	return unknownCommand(cmd, name)
}

func helpHint(cmd *cobra.Command) string { return fmt.Sprintf("see '%s --help'", cmd.CommandPath()) }

// verb is the body of a command. Its errors are failures unless they say that
// they are wrong use.
type verb func(ctx context.Context, args []string) error

// runs turns a verb into what cobra calls.
func (in *invocation) runs(v verb) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		in.began = true
		return v(cmd.Context(), args)
	}
}

// takes states the arguments of a command by name, so that a missing one can be
// called by it.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("missing %s; %s", names[len(args)], helpHint(cmd))
		case len(args) > len(names):
			// It is not repeated: somebody may have taken a password for an argument.
			return fmt.Errorf("too many arguments: %d, and %d expected; %s", len(args), len(names), helpHint(cmd))
		}
		return nil
	}
}

// misuse makes an error that a verb finds itself and that is wrong use.
func misuse(format string, args ...any) error {
	return &useError{fmt.Errorf(format, args...)}
}

type useError struct{ error }

func (e *useError) Unwrap() error { return e.error }
