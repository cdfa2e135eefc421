package dmarc

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRecord(t *testing.T) {
	t.Parallel()
	with := func(change func(*record)) *record {
		r := &record{policy: PolicyReject, percent: 100, psd: 'u'}
		change(r)
		return r
	}
	as := func(*record) {}
	none := func(r *record) { r.policy, r.reports = PolicyNone, true }
	const problem = "it has no valid p, or a wrong sp or np, and no rua"
	tests := map[string]struct {
		text string
		want *record // nil for no record
	}{
		"plain":                 {"v=DMARC1; p=reject", with(as)},
		"case and space":        {"V\t=  DMARC1 ;\tP = ReJeCt ;", with(as)},
		"no space":              {"v=DMARC1;p=reject", with(as)},
		"empty tags":            {"v=DMARC1;;;p=reject;;", with(as)},
		"version not first":     {"p=reject; v=DMARC1", nil},
		"version in other case": {"v=dmarc1; p=reject", nil},
		"other version":         {"v=DMARC12; p=reject", nil},
		"later version":         {"v=DMARC2; p=reject", nil},
		"space in front":        {" v=DMARC1; p=reject", nil},
		"no version":            {"p=reject", nil},
		"SPF":                   {"v=spf1 -all", nil},
		"empty":                 {"", nil},
		"unknown tags":          {"v=DMARC1; p=reject; xx=1; y; =; rf=afrf; ri=86400; fo=1:d", with(as)},
		"tag again":             {"v=DMARC1; p=reject; p=none", with(as)},
		"all": {"v=DMARC1; p=reject; sp=quarantine; np=none; adkim=s; aspf=S; t=y; psd=n; pct=20; rua=mailto:a@example.org", with(func(r *record) {
			*r = record{PolicyReject, PolicyQuarantine, PolicyNone, "", true, true, 20, true, 'n', true, ""}
		})},
		"public suffix":          {"v=DMARC1; p=reject; psd=Y", with(func(r *record) { r.psd = 'y' })},
		"wrong values":           {"v=DMARC1; p=reject; adkim=x; aspf=; t=1; psd=z; pct=101", with(as)},
		"wrong pct":              {"v=DMARC1; p=reject; pct=-1", with(as)},
		"pct with sign":          {"v=DMARC1; p=reject; pct=+007", with(as)},
		"pct 0":                  {"v=DMARC1; p=reject; pct=0", with(func(r *record) { r.percent = 0 })},
		"only rua":               {"v=DMARC1; rua=mailto:a@example.org", with(none)},
		"wrong p with rua":       {"v=DMARC1; p=rejct; sp=reject; rua=mailto:a@example.org!10m", with(none)},
		"wrong sp with rua":      {"v=DMARC1; p=reject; sp=all; rua=x, https://example.org/r", with(none)},
		"wrong np with rua":      {"v=DMARC1; p=reject; np=; rua=mailto:a@example.org", with(func(r *record) { r.reports = true })},
		"wrong p":                {"v=DMARC1; p=rejct", with(func(r *record) { r.policy, r.problem = PolicyNone, problem })},
		"wrong sp":               {"v=DMARC1; p=reject; sp=x", with(func(r *record) { r.policy, r.problem = PolicyNone, problem })},
		"nothing but a version":  {"v=DMARC1", with(func(r *record) { r.policy, r.problem = PolicyNone, problem })},
		"rua that is no address": {"v=DMARC1; rua=a@example.org, mailto:", with(func(r *record) { r.policy, r.problem = PolicyNone, problem })},
		// RFC 7489 appendix B.2.
		"monitoring":  {"v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com", with(none)},
		"third party": {"v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com; ruf=mailto:auth-reports@thirdparty.example.net", with(none)},
		"subdomain": {"v=DMARC1; p=quarantine; rua=mailto:dmarc-feedback@example.com,mailto:tld-test@thirdparty.example.net!10m; pct=25", with(func(r *record) {
			r.policy, r.percent, r.reports = PolicyQuarantine, 25, true
		})},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := parseRecord(tt.text)
			if ok != (tt.want != nil) {
				t.Fatalf("it is a record: %t", ok)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(record{})); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, seed := range []string{
		"v=DMARC1; p=reject", "v=DMARC1; rua=mailto:a@example.org!10m,https://example.org", "v=DMARC1;p=none;sp=reject;np=x;psd=y;t=y;pct=5",
		"V = DMARC1 ; ;;= ;p", "v=spf1 -all",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, ok := parseRecord(text)
		if !ok {
			return
		}
		for _, p := range []Policy{r.policy, r.subdomains, r.missing} {
			if _, ok := parsePolicy(string(p)); !ok && (p != "" || p == r.policy) {
				t.Errorf("the policy is %q", p)
			}
		}
		if r.percent < 0 || r.percent > 100 || !strings.Contains("ynu", string(r.psd)) || r.problem != "" && r.reports {
			t.Errorf("%+v", r)
		}
		if again, ok := parseRecord(text + "; unknown=1; y;"); !ok || *again != *r {
			t.Errorf("%+v with more tags is %+v", r, again)
		}
	})
}
