package lint_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/lint"
)

// found gives what was found, a line each: the line, the code, and for what is
// silenced the reason.
func found(r *lint.Report) []string {
	var list []string
	for _, d := range r.Diagnostics {
		list = append(list, place(d))
	}
	for _, s := range r.Silenced {
		list = append(list, place(s.Diagnostic)+": "+s.Reason)
	}
	return list
}

func place(d config.Diagnostic) string {
	before := strings.Index(d.String(), ".hcl:")
	line, _, _ := strings.Cut(d.String()[before+len(".hcl:"):], ":")
	return line + " " + d.Code
}

func TestSilence(t *testing.T) {
	t.Parallel()
	const head = "server {\n  hostname = \"mx1.example.org\"\n}\ndomain \"example.org\" {}\n" // lines 1 to 4
	const spare = "chain \"spare\" {\n  spf {}\n}\n"
	listener := func(inside string) string {
		return "listener \"smtp\" \"mx\" {\n  address = \"127.0.0.1:25\"\n  tls     = \"off\"\n  chain {\n" + inside + "    deliver {}\n  }\n}\n"
	}
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"above":               {text: "# validate:ignore chain/unused: later\n" + spare, want: []string{"6 chain/unused: later"}},
		"above, with slashes": {text: "// validate:ignore chain/unused: later\n" + spare, want: []string{"6 chain/unused: later"}},
		"above, among others": {text: "# One.\n# validate:ignore chain/unused: later\n# Two.\n" + spare, want: []string{"8 chain/unused: later"}},
		"behind":              {text: strings.Replace(spare, "{\n", "{ # validate:ignore chain/unused: later\n", 1), want: []string{"5 chain/unused: later"}},
		"a whole block": {
			text: "# validate:ignore order/twice: two caches\n" + listener("    spf {}\n    spf \"b\" {}\n    dkim_verify {}\n    dkim_verify \"c\" {}\n"),
			want: []string{"11 order/twice: two caches", "13 order/twice: two caches"},
		},
		"an attribute": {
			text: listener("    spf {\n      # validate:ignore security/spf-permerror: they know\n      permerror = \"reject\"\n    }\n"),
			want: []string{"11 security/spf-permerror: they know"},
		},
		"behind, for its line alone": {
			text: listener("    spf { # validate:ignore security/spf-permerror: they know\n      permerror = \"reject\"\n    }\n"),
			want: []string{"9 ignore/unused", "10 security/spf-permerror"},
		},
		"two codes": {
			text: "# validate:ignore chain/unused: a\n# validate:ignore chain/duplicate-name: b\n" + spare,
			want: []string{"6 ignore/unused", "7 chain/unused: a"},
		},
		"another place":  {text: spare + "# validate:ignore chain/unused: later\nlog {}\n", want: []string{"5 chain/unused", "8 ignore/unused"}},
		"nothing below":  {text: spare + "# validate:ignore chain/unused: later\n", want: []string{"5 chain/unused", "8 ignore/unused"}},
		"no reason":      {text: "# validate:ignore chain/unused\n" + spare, want: []string{"5 ignore/no-reason", "6 chain/unused"}},
		"an empty one":   {text: "# validate:ignore chain/unused:  \n" + spare, want: []string{"5 ignore/no-reason", "6 chain/unused"}},
		"no code":        {text: "# validate:ignore\n" + spare, want: []string{"5 ignore/no-code", "6 chain/unused"}},
		"a wrong code":   {text: "# validate:ignore chain/unussed: later\n" + spare, want: []string{"5 ignore/unknown-code", "6 chain/unused"}},
		"a word like it": {text: "# validate:ignored chain/unused: later\n" + spare, want: []string{"6 chain/unused"}},
		"in a text":      {text: "variable \"a\" {\n  default = <<EOT\n# validate:ignore chain/unused: later\nEOT\n}\n" + spare, want: []string{"10 chain/unused"}},
		"an error": {
			text: "# validate:ignore config/bad-value: it works\nlog {\n  level = \"loud\"\n}\n",
			want: []string{"5 ignore/not-allowed", "7 config/bad-value"},
		},
		"a firm warning": {
			text: "# validate:ignore security/everybody-exempt: it works\n" + listener("    spf {\n      exempt = [\"::/0\"]\n    }\n"),
			want: []string{"5 ignore/not-allowed", "11 security/everybody-exempt"},
		},
		"unused beside an error": {text: "# validate:ignore chain/unused: later\nlog {\n  level = \"loud\"\n}\n", want: []string{"7 config/bad-value"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, found(check(t, catalogue(t), "a.hcl", head+tt.text))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestOffline checks that the text alone counts: the same file gives the same on a
// machine that lacks all that it names.
func TestOffline(t *testing.T) {
	t.Parallel()
	const text = `
server {
  hostname = env("HOST")
  user     = "nobody-of-that-name"
}
variable "clamd" {}
log {
  output = "/nowhere/at/all/mail.log"
}
tls "files" {
  cert = "not-there.pem"
  key  = "not-there-key.pem"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  chain {
    blocklist {
      file = "not-there.txt"
    }
    exec {
      command = ["/not/there"]
    }
    clamav {
      address = var.clamd
    }
    attachments {}
    rspamd {
      address  = "tcp:127.0.0.1:11333"
      password = trimspace(file("secret"))
    }
    deliver {}
  }
}
listener "smtp" "submission" {
  address = "127.0.0.1:465"
  tls     = "implicit"
  auth    = "required"
  chain {
    password {}
    sender_login {}
    dkim_sign {}
    deliver {}
  }
}
listener "admin" "local" {
  address = "unix:admin.sock"
  group   = "nobody-of-that-name"
}
domain "example.org" {
  dkim {
    selector = "s2026"
    key_file = "not-there.pem"
  }
}
`
	options := core.Options{
		ConfigFile: filepath.Join(t.TempDir(), "a.hcl"), Source: []byte(text), Offline: true,
		Config: config.Options{
			Environ:      func(name string) (string, bool) { t.Errorf("it asks for %s", name); return "", false },
			EnvironNames: func() []string { t.Error("it lists the environment"); return nil },
			ReadFile:     func(name string) ([]byte, error) { t.Errorf("it reads %s", name); return nil, os.ErrNotExist },
		},
	}
	r := lint.Check(options, catalogue(t))
	if diff := cmp.Diff([]string{"23 order/scanner-first"}, found(r)); diff != "" {
		t.Errorf("(-want +got):\n%s%s", diff, printed(r.Diagnostics, r.Sources))
	}
	for _, want := range []string{"--offline", `dkim (line 50)`, `tls "files" (line 10)`, "more"} {
		if !strings.Contains(r.NotChecked, want) {
			t.Errorf("what was not checked lacks %q: %s", want, r.NotChecked)
		}
	}
	options.Source = []byte(strings.Replace(text, `"required"`, `"always"`, 1))
	if r := lint.Check(options, catalogue(t)); !r.Diagnostics.HasErrors() {
		t.Error("a wrong value passes")
	}
	options.Source, options.Offline, options.Config = []byte(text), false, config.Options{Environ: func(string) (string, bool) { return "", false }}
	if r := lint.Check(options, catalogue(t)); len(r.Diagnostics) < 8 {
		t.Errorf("with the machine looked at there is only\n%s", printed(r.Diagnostics, r.Sources))
	}
}

func TestOpenSecret(t *testing.T) {
	t.Parallel()
	const text = `server {
  hostname = "mx1.example.org"
}
domain "example.org" {}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"
  chain {
    rspamd "a" {
      address  = "tcp:127.0.0.1:11333"
      password = "not so secret"
    }
    rspamd "b" {
      address  = "tcp:127.0.0.1:11335"
      password = env("RSPAMD_PASSWORD", "none")
    }
    deliver {}
  }
}
`
	for mode, want := range map[os.FileMode][]string{0o644: {"11 security/open-secret"}, 0o600: nil} {
		name := filepath.Join(t.TempDir(), "a.hcl")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		r := lint.Check(core.Options{ConfigFile: name, DataDir: filepath.Join(t.TempDir(), "data")}, catalogue(t))
		if diff := cmp.Diff(want, found(r)); diff != "" {
			t.Errorf("mode %04o (-want +got):\n%s", mode, diff)
		}
	}
}
