// Command gen gathers the comments on settings from the source into
// core/reference/comments.json, and has the standard build write docs/modules.md
// with them. It runs by 'go generate ./modules/standard'.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/mox-like/mox-like/core/reference"
)

// modulePath is the import path of the repository's root.
const modulePath = "github.com/mox-like/mox-like"

func main() {
	root := flag.String("root", ".", "the root of the repository")
	flag.Parse()
	if err := run(*root); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	comments, err := reference.Gather(os.DirFS(root), modulePath)
	if err != nil {
		return err
	}
	text, err := reference.Encode(comments)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "core/reference/comments.json"), text, 0o644); err != nil { //nolint:gosec // a source file
		return fmt.Errorf("write comments: %w", err)
	}
	return writePage(root)
}

// writePage has the standard build print the page: this program, being of the
// core, knows no module.
func writePage(root string) error {
	cmd := exec.Command("go", "run", "./cmd/mox-like", "modules", "--format", "markdown")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	page, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("print reference: %w", err)
	}
	if err := os.WriteFile(filepath.Join(root, "docs/modules.md"), page, 0o644); err != nil { //nolint:gosec // a document
		return fmt.Errorf("write reference: %w", err)
	}
	return nil
}
