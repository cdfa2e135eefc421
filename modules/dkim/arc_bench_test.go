package dkim

import (
	"strings"
	"testing"
)

// BenchmarkARCVerify validates chains: usual ones, and those that cost most.
func BenchmarkARCVerify(b *testing.B) {
	large := chainOf(b, small+strings.Repeat("A line of text, with some words in it.\r\n", 25_000), 2)
	long := setOf(1)
	long.results += "; " + strings.Repeat("x=y ", 40_000)
	many := arcCraft(b, small, long)
	for i := 2; i <= maxSets; i++ {
		many = setOf(i).put(b, many)
	}
	wide := "X: " + strings.Repeat(" x", 80_000) + "\r\n" + small
	for i := range maxSets {
		s := setOf(i + 1)
		s.message = strings.Replace(s.message, "h=from", "h=x:from", 1)
		wide = s.put(b, wide)
	}
	for name, raw := range map[string]string{
		"no chain": small, "one set": chainOf(b, small, 1), "three sets": chainOf(b, small, 3), "one MB": large,
		"50 sets": chainOf(b, small, maxSets), "50 sets, long results": many, "50 sets, long field": wide,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				verifyChain(b, handlerZone(), raw)
			}
		})
	}
}

// BenchmarkARCSeal seals a message.
func BenchmarkARCSeal(b *testing.B) {
	for name, key := range map[string]string{"RSA": "rsa", "Ed25519": "ed25519"} {
		b.Run(name, func(b *testing.B) {
			h, tx := arcSealer(key), transaction(b, chainOf(b, small, 1))
			for b.Loop() {
				sealedBy(b, h, tx.Fork())
			}
		})
	}
}
