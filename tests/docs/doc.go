// Package docs holds the pages of README.md and docs/ to what they say: every
// fenced block is run or checked, every link leads somewhere, and every setting,
// metric, command and error text that a page names exists.
//
// # What becomes of a fenced block
//
// The word behind the fence says it, so that a page reads the same in any
// Markdown viewer:
//
//	sh        run, line by line; every command must end with 0
//	console   lines with "$ " are run, and those below are what they must print; a
//	          block of such lines alone shows nothing, and nothing is compared
//	yaml      a table of routes is rendered by the real reader, a configuration
//	          of Envoy linted and given to Envoy, Kubernetes manifests and compose
//	          files are parsed; values of the chart are held against its schema
//	json      parsed
//	sql       run on the stack's database
//	env       every name is a setting, and the command reads all of it
//	promql    every metric in it exists
//	mermaid   its lines are of the kind that it says it is
//
// Commands that only look (curl without -d and -X, grep, tail) are given 10 s to print
// what is shown: a change takes its milliseconds to arrive.
//
// The blocks of a page share one shell and one directory, in the order of the
// page; bin/ is there, with the programs as they are built, ready.json of `up`, decisions.jsonl of its authz and mail/ of its
// login. All pages share one
// `gatehouse up`, and find its demo user unharmed.
//
// A comment on the line above a block says what the fence cannot:
//
//	<!-- not-run: needs Docker -->         left alone; listed at the end, with the reason
//	<!-- exit: 1 -->                       the code with which the last command ends
//	<!-- as: routes.yaml -->               is written to that file as well
//	<!-- values -->                        this yaml is values of the chart
//	<!-- refused: unknown key "role" -->   this table must be refused, with these words
//
// A block of another kind without such a comment fails.
//
// # What is put in the place of what
//
// In commands and in what they must print, the ports that the manual names are
// those of the stack (localhost:8080, :8081, :8082, :9192, :9901), and <printed
// by make up> is the demo user's password. In what they must print, "…" stands
// for any text in a line, and a line of "…" alone for any lines.
//
// curl, psql and make are stand-ins of a few lines (standins_test.go), so that
// the pages are held to the same on every machine: curl and psql know the options
// that the manual uses and refuse others, make only looks whether the verb exists.
package docs
