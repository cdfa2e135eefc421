package dkim

import (
	"os"
	"strings"
	"testing"
)

// rfcZone has the keys of the examples in RFC 6376 appendix C and RFC 8463
// appendix A.2.
var rfcZone = zone{
	"brisbane._domainkey.example.com": {"v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQ" +
		"KBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYt" +
		"IxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v" +
		"/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhi" +
		"tdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"},
	"brisbane._domainkey.football.example.com": {"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},
	"test._domainkey.football.example.com": {"v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR" +
		"iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC" +
		"DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3" +
		"Ip3G+2kryOTIKT+l/K4w3QIDAQAB"},
}

func example(tb testing.TB, name string) string {
	tb.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw)
}

// TestRFCs verifies the examples of RFC 6376 appendix A and RFC 8463 appendix A.3,
// with line ends of the network and of Unix.
func TestRFCs(t *testing.T) {
	t.Parallel()
	for name, signatures := range map[string]int{"rfc6376.eml": 1, "rfc8463.eml": 2} {
		unix := example(t, name)
		for end, raw := range map[string]string{"LF": unix, "CR LF": strings.ReplaceAll(unix, "\n", "\r\n")} {
			found := verifyText(t, rfcZone, raw)
			if len(found.findings) != signatures {
				t.Errorf("%s with %s: %d signatures, want %d", name, end, len(found.findings), signatures)
			}
			for _, f := range found.findings {
				if f.result != resultPass {
					t.Errorf("%s with %s, %s: %s, %s", name, end, f.algorithm, f.result, f.reason)
				}
			}
		}
	}
}
