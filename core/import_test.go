package core_test

import (
	"os/exec"
	"strings"
	"testing"
)

const root = "github.com/mox-like/mox-like/"

// Imports run one way: cmd → modules → core → core/mail. A module imports no
// other but for the services.
func TestImportsRunOneWay(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}}:{{range .Imports}} {{.}}{{end}}`, root+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	packages := 0
	for line := range strings.Lines(string(out)) {
		pkg, imports, ok := strings.Cut(strings.TrimPrefix(line, root), ":")
		if !ok {
			t.Fatalf("unexpected line %q", line)
		}
		packages++
		for imported := range strings.FieldsSeq(imports) {
			if imported, ok := strings.CutPrefix(imported, root); ok && !mayImport(pkg, imported) {
				t.Errorf("%s imports %s", pkg, imported)
			}
		}
	}
	if packages < 10 {
		t.Errorf("only %d packages were looked at", packages)
	}
}

// services are the modules that others may import.
var services = map[string]bool{"modules/mailbox": true, "modules/accounts": true}

func mayImport(pkg, imported string) bool {
	room, of := room(pkg), room(imported)
	switch room {
	case "core":
		return of == "core" && (pkg != "core/mail" || imported == "core/mail")
	case "modules":
		return of == "core" && imported != "core/cli" ||
			services[imported] || family(pkg) == family(imported) || pkg == "modules/standard"
	default:
		return true
	}
}

// room is the first folder of a package's path.
func room(pkg string) string { first, _, _ := strings.Cut(pkg, "/"); return first }

// family is a module's folder, whose packages belong together.
func family(pkg string) string {
	parts := strings.SplitN(pkg, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}
