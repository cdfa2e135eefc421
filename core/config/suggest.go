package config

import (
	"fmt"
	"strings"
)

// Suggest gives the candidate that was probably meant by a misspelled name, ""
// if none is near.
func Suggest(name string, candidates []string) string {
	folded := foldName(name)
	best, least := "", 0
	for _, c := range candidates {
		d := distance(folded, foldName(c))
		if d <= tolerance(folded, c) && (best == "" || d < least) {
			best, least = c, d
		}
	}
	return best
}

// foldName evens out what people mix up.
func foldName(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "-", "_")
}

// tolerance is one slip for each three letters, so that short words are not
// taken for each other.
func tolerance(a, b string) int { return (min(len(a), len(b), 12) + 1) / 3 }

// maxSuggest bounds the length of names that are compared, in bytes.
const maxSuggest = 64

// distance counts the slips between two words: a letter too many, missing or
// wrong, or two neighbours swapped.
func distance(a, b string) int {
	if len(a) > maxSuggest || len(b) > maxSuggest {
		return maxSuggest
	}
	var rows [3][maxSuggest + 1]int
	for j := range len(b) + 1 {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row := &rows[(i+1)%3], &rows[(i-1)%3], &rows[i%3]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return rows[len(a)%3][len(b)]
}

// didYouMean gives a detail: the near candidate if there is one, else otherwise.
func didYouMean(name string, candidates []string, otherwise string) string {
	if near := Suggest(name, candidates); near != "" {
		return fmt.Sprintf("Did you mean %q?", near)
	}
	return otherwise
}
