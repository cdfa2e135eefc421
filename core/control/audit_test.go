package control_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/store"
)

// TestAudit: every change is in the trail with its actor, and nothing else, and no
// secret.
func TestAudit(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"local", "http"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			var ops control.Operations = control.NewLocal(host(t), "/data", new(process))
			if way == "http" {
				ops = connect(t, t.TempDir(), ops)
			}
			for _, name := range []string{"app passwords", "second factor", "blocks", "locks", "greylist"} {
				for _, s := range steps[name] {
					if _, err := s.do(t.Context(), ops); err != nil && s.err == nil && name != "app passwords" && name != "second factor" {
						t.Fatalf("%s: %v", s.name, err)
					}
				}
				if name == "app passwords" { // there was no account: nothing has changed
					if list, _, err := ops.Audit(t.Context(), control.ChangeFilter{}, control.Page{}); err != nil || len(list) > 0 {
						t.Fatalf("the trail has %d entries, error %v, before anything has changed", len(list), err)
					}
					run(t, ops, steps[name])
				}
			}
			checkTrail(t, ops)
		})
	}
}

// checkTrail compares the whole trail, page by page.
func checkTrail(t *testing.T, ops control.Operations) {
	t.Helper()
	var got []string
	p := control.Page{Limit: 5}
	for {
		list, next, err := ops.Audit(t.Context(), control.ChangeFilter{}, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			text := fmt.Sprintf("%s %s %s -> %s", e.Operation, e.Object, e.Before, e.After)
			if strings.Contains(strings.ToLower(text), "topsecret") || strings.Contains(text, goodCode) {
				t.Errorf("the trail shows a secret: %s", text)
			}
			if want := fmt.Sprintf("(uid %d)", os.Getuid()); !strings.HasSuffix(e.Actor, want) || e.Via != control.ViaCommand || e.Unfinished || e.Time.IsZero() {
				t.Errorf("entry %+v, want one of %s by command", e, want)
			}
			got = append(got, e.Operation+" "+e.Object)
		}
		if p.After = next; next == "" {
			break
		}
	}
	want := []string{
		"disallow-greylist example.org", "allow-greylist example.org", "release-triplet 1",
		"unlock-account " + alice,
		"remove-block 192.0.2.0/24", "import-blocks import", "add-block 198.51.100.7/32", "add-block 192.0.2.0/24",
		"remove-totp " + alice, "verify-totp " + alice, "set-append-code " + alice, "confirm-totp " + alice, "enrol-totp " + alice,
		"revoke-app-password " + alice, "add-app-password " + alice, "add-user " + alice,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("trail, the newest first (-want +got):\n%s", diff)
	}
	only, _, err := ops.Audit(t.Context(), control.ChangeFilter{Operation: "remove-block", Object: "192.0.2.0/24"}, control.Page{})
	if err != nil || len(only) != 1 || !strings.Contains(string(only[0].Before), "7 complaints") || only[0].After != nil {
		t.Errorf("filtered: %+v, error %v; want the removal with what was there", only, err)
	}
}

// TestAuditOfOthers: a request that our commands did not make is the API's, and one
// that falls over stays marked.
func TestAuditOfOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local := control.NewLocal(host(t), "/data", nil)
	connect(t, dir, local)
	c := raw(dir)
	t.Cleanup(c.CloseIdleConnections)
	if status, body := send(t, c, http.MethodPost, "/v1/users", "", `{"address":"a@example.test","password":"panic"}`); status != 500 || strings.Contains(body, "fell over") {
		t.Errorf("a panic: %d %s", status, body)
	}
	list, _, err := local.Audit(t.Context(), control.ChangeFilter{}, control.Page{})
	if err != nil || len(list) != 1 {
		t.Fatalf("trail %+v, error %v", list, err)
	}
	want := control.AuditEntry{Via: control.ViaAPI, Operation: "add-user", Object: "a@example.test", Unfinished: true}
	if diff := cmp.Diff(want, list[0], cmpopts.IgnoreFields(control.AuditEntry{}, "ID", "Time", "Actor")); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
}

// TestSweepAudit: entries go after two years.
func TestSweepAudit(t *testing.T) {
	t.Parallel()
	h := host(t)
	local := control.NewLocal(h, "/data", nil)
	for _, name := range []string{"a", "b", "c"} {
		if err := local.AddUser(t.Context(), name+"@example.test", "secret"); err != nil {
			t.Fatal(err)
		}
	}
	service, err := core.ServiceOf[*control.Service](h)
	if err != nil {
		t.Fatal(err)
	}
	sweep := func(now time.Time, limit int) (removed int) {
		err := h.Store().Write(t.Context(), func(tx *store.Tx) (err error) {
			removed, err = service.Sweep(tx, now, limit)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return removed
	}
	const year = 365 * 24 * time.Hour
	for _, step := range []struct {
		after time.Duration
		limit int
		want  int
	}{{year, 2, 0}, {3 * year, 2, 2}, {3 * year, 2, 1}, {3 * year, 2, 0}} {
		if got := sweep(time.Now().Add(step.after), step.limit); got != step.want {
			t.Errorf("after %s: %d removed, want %d", step.after, got, step.want)
		}
	}
}
