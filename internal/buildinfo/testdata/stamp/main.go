// Command stamp prints what buildinfo says, for the test beside it.
package main

import (
	"fmt"

	"github.com/atenex/gatehouse/internal/buildinfo"
)

func main() { fmt.Println(buildinfo.Version(), buildinfo.Revision()) }
