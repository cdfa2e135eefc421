// Command gen writes the document that describes the admin API.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/mox-like/mox-like/core/control"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name the file to write")
	}
	text, err := control.OpenAPI()
	if err != nil {
		return err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, text, "", "  "); err != nil {
		return fmt.Errorf("indent: %w", err)
	}
	pretty.WriteByte('\n')
	return os.WriteFile(args[0], pretty.Bytes(), 0o644) //nolint:gosec // a document for everyone
}
