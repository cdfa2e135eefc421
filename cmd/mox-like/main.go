// Command mox-like is the mail server with the modules of the default build.
package main

import (
	"github.com/mox-like/mox-like/core/cli"

	_ "github.com/mox-like/mox-like/modules/standard"
)

func main() { cli.Main() }
