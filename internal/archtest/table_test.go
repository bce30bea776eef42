package archtest

// rooms says which of our own packages each room may import. A room is a
// package, or with "/..." a package and all below it; the most specific row
// counts. What is not listed is forbidden, and a package without a row fails the
// test. Standard library and third parties: see libraries.
//
// leaves may be imported by everybody else and are not repeated in the rows.
var leaves = []string{"internal/identity", "internal/problem"}

// forTests may be imported by everybody's tests, and by no shipped code.
var forTests = []string{"internal/starved"}

var rooms = []room{
	{path: "internal/identity", may: []string{"internal/problem"}},
	{path: "internal/problem"},
	{path: "proto/..."},

	{path: "internal/archtest"},
	{path: "internal/atomicfile"},
	{path: "internal/buildinfo"},
	{path: "internal/certfiles"},
	{path: "internal/config/...", may: []string{"internal/config"}},
	{path: "internal/decisionlog", may: []string{"proto/gatehouse/v1"}}, // what was decided, not how
	{path: "internal/devstack/...", may: []string{"internal/atomicfile"}},
	{path: "internal/health"},
	{path: "internal/issuers", may: []string{"internal/keyring", "internal/strictyaml", "internal/token"}},
	{path: "internal/keyring", may: []string{"internal/token"}},
	{path: "internal/mail", may: []string{"internal/atomicfile"}, tests: []string{"internal/mail/mailtest"}},
	{path: "internal/mail/mailtest"}, // a server for tests, which knows nothing of who sends
	{path: "internal/password"},
	{path: "internal/postgres", tests: []string{"internal/postgres/postgrestest"}},
	{path: "internal/postgres/postgrestest", may: []string{"internal/devstack", "internal/postgres"}},
	{path: "internal/serve"},
	{path: "internal/starved"},
	{path: "internal/strictyaml"},
	{path: "internal/token"},
	{path: "internal/tracing"},

	{path: "authz/...", may: []string{"internal/token", "proto/gatehouse/v1"}},
	{path: "authz/activity"}, // neither tokens nor Envoy: users, and what is said of them
	{path: "authz/verified"}, // nor how tokens are verified: only that they were
	{path: "login/...", may: []string{"internal/token", "internal/password"}, tests: []string{"internal/mail", "internal/mail/mailtest", "internal/postgres", "internal/postgres/postgrestest"}},
	{path: "envoy/...", tests: []string{"internal/devstack"}},
	{path: "envoy/routes", may: []string{"internal/strictyaml"}}, // nor how Envoy is told: authz takes the same table, and no renderer with it

	// cmd joins the parts, so it may import them all, but its tests alone may
	// make databases of their own.
	{path: "cmd/...", may: []string{
		"authz/...", "login/...", "envoy/...", "cmd/internal/...", "proto/...",
		"internal/atomicfile", "internal/buildinfo", "internal/certfiles", "internal/config", "internal/decisionlog", "internal/devstack/...", "internal/health",
		"internal/issuers", "internal/keyring", "internal/mail", "internal/password", "internal/postgres", "internal/serve", "internal/token", "internal/tracing",
	}, tests: []string{"internal/postgres/postgrestest"}},

	{path: "helm/chartdoc"}, // the chart's README, from its values

	// Strangers to the inside: they start the binaries and speak HTTP and SQL.
	{path: "tests/e2e", tests: []string{"internal/devstack", "internal/postgres/postgrestest"}},
	// The manual is held to what the binaries do; the texts of refusals it has from where they are made.
	{path: "tests/docs"},
	{path: "tests/compose"},
	{path: "tests/api", tests: []string{"envoy/routes"}},       // the description of the interface is held to the table of routes
	{path: "tests/matrix", may: []string{"internal/devstack"}}, // runs the tests of others, on the Envoys that devstack fetches
	{path: "tests/monitoring"},
	// Likewise, with helm and a Kubernetes API server; lab runs those.
	{path: "tests/k8s/...", may: []string{"internal/devstack", "tests/k8s/..."}},
	// Strangers too, who read the recipes of docs/meshes instead of being given a configuration.
	{path: "tests/mesh", tests: []string{"internal/devstack", "internal/postgres/postgrestest", "tests/k8s/lab"}},
	// The benchmark takes Envoy's configuration and tokens from where they are made.
	{path: "tests/bench/...", may: []string{"tests/bench/...", "envoy", "envoy/routes", "internal/devstack", "internal/token"}},
}

type room struct {
	path string
	// may lists what its code may import, besides the leaves and what lies in the
	// room itself.
	may []string
	// tests lists what only its tests may import on top of that.
	tests []string
}

// libraries says where each third party's module may be imported: in a file, in
// a directory ("envoy/*"), in one and all below it ("authz/..."), or anywhere
// ("..."). A module without a row may be imported nowhere.
var libraries = []library{
	{module: "github.com/coder/websocket", tests: []string{"..."}},
	{module: "github.com/google/go-cmp", tests: []string{"..."}},
	{module: "github.com/rogpeppe/go-internal", tests: []string{"cmd/..."}},

	// Envoy's protobuf stops at the renderer and at the files of authz that read a
	// request, write an answer, or hold the server between the two.
	{
		module: "github.com/envoyproxy/go-control-plane/envoy",
		files:  []string{"envoy/*", "envoy/lint/...", "authz/request.go", "authz/response.go", "authz/effects.go", "authz/server.go", "tests/bench/..."},
		tests:  []string{"authz/...", "cmd/...", "tests/e2e/impostor_test.go", "tests/e2e/mesh_test.go", "tests/mesh/..."},
	},
	// Tests of the whole gate put a stranger in authz' place, and ask authz as a mesh does.
	{module: "google.golang.org/grpc", files: []string{
		"authz/...", "cmd/internal/...",
		"internal/tracing/...",  // makes the spans of calls
		"internal/devstack/...", // asks authz for its health before it says that the stack is up
		"tests/bench/contender/...",
	}, tests: []string{"envoy/...", "cmd/...", "tests/e2e/impostor_test.go", "tests/e2e/mesh_test.go", "tests/e2e/tracing_test.go", "tests/mesh/..."}},
	{module: "google.golang.org/protobuf", files: []string{"authz/...", "internal/decisionlog/...", "envoy/*", "envoy/lint/...", "proto/...", "tests/bench/edge/..."}, tests: []string{"cmd/...", "internal/tracing/...", "tests/e2e/impostor_test.go", "tests/e2e/tracing_test.go", "tests/mesh/..."}},
	{module: "google.golang.org/genproto/googleapis/rpc", files: []string{"authz/response.go", "tests/bench/contender/..."}, tests: []string{"authz/...", "envoy/...", "cmd/...", "tests/e2e/impostor_test.go", "tests/mesh/..."}},

	{module: "github.com/golang-jwt/jwt/v5", files: []string{"internal/token/...", "tests/bench/ordinary/..."}, tests: []string{"authz/bench_test.go"}},
	{module: "golang.org/x/crypto", files: []string{"internal/password/..."}, tests: []string{"login/...", "cmd/..."}},

	// devstack asks PostgreSQL whether it is up, and makes the database that the
	// stack runs on. Tests through the whole stack write rows as any stranger's SQL would.
	{
		module: "github.com/jackc/pgx/v5",
		files:  []string{"internal/postgres/...", "internal/devstack/...", "tests/bench/..."},
		tests:  []string{"cmd/...", "tests/...", "internal/config/...", "login/mailer_test.go"},
	},
	{module: "github.com/KimMachineGun/automemlimit", files: []string{"cmd/internal/authzd/memory.go"}},
	{module: "github.com/pressly/goose/v3", files: []string{"internal/postgres/..."}},

	{module: "github.com/go-json-experiment/json", files: []string{"internal/token/...", "login/..."}},
	{module: "github.com/google/uuid", files: []string{"internal/identity/...", "internal/postgres/..."}, tests: []string{"..."}},
	{module: "github.com/joho/godotenv", files: []string{"internal/config/..."}},
	{module: "sigs.k8s.io/yaml", files: []string{"envoy/..."}, tests: []string{"envoy/...", "cmd/...", "tests/e2e/fleet_test.go", "tests/e2e/rolling_test.go", "tests/docs/...", "tests/k8s/...", "tests/monitoring/...", "tests/compose/...", "tests/mesh/..."}},
	{module: "go.yaml.in/yaml/v4", files: []string{"envoy/...", "helm/chartdoc/...", "internal/issuers/...", "internal/strictyaml/..."}}, // knows the lines of what it reads, and comments
	{module: "github.com/santhosh-tekuri/jsonschema/v6", tests: []string{"envoy/...", "login/...", "tests/docs/..."}},

	{module: "github.com/wneessen/go-mail", files: []string{"internal/mail/*"}},
	{module: "github.com/spf13/cobra", files: []string{"cmd/gatehouse/..."}},
	{module: "golang.org/x/term", files: []string{"cmd/gatehouse/..."}},

	{module: "github.com/prometheus/client_golang", files: []string{
		"authz/...", "login/...", "cmd/...", "internal/decisionlog/...", "internal/health/...", "internal/issuers/...", "internal/keyring/...", "internal/password/...", "internal/postgres/...", "internal/token/...", "internal/tracing/...",
	}, tests: []string{"..."}},

	// Whoever makes spans knows the interface; the SDK, and where spans go, are
	// internal/tracing's alone.
	{module: "go.opentelemetry.io/otel/sdk", files: []string{"internal/tracing/..."}, tests: []string{"authz/...", "internal/postgres/...", "login/..."}},
	{module: "go.opentelemetry.io/otel/exporters/otlp/otlptrace", files: []string{"internal/tracing/..."}},
	{module: "go.opentelemetry.io/otel", files: []string{"authz/...", "cmd/internal/...", "internal/postgres/...", "internal/tracing/...", "login/..."}},
	{module: "go.opentelemetry.io/proto/otlp", tests: []string{"internal/tracing/...", "tests/e2e/tracing_test.go"}},

	{module: "golang.org/x/net", files: []string{"cmd/internal/..."}, tests: []string{"..."}},
	{module: "golang.org/x/sync", files: []string{"..."}},
}

type library struct {
	module string
	files  []string
	tests  []string // files of tests, besides those of files
}
