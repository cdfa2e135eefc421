package spamassassin

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Bounds of an answer. Real reports have a few KB.
const (
	maxLine     = 1 << 10  // of one line of its head
	maxHead     = 32       // lines
	maxReport   = 64 << 10 // what is looked at of a report
	maxBody     = 8 << 20  // what a report may have
	maxRules    = 250
	maxRuleName = 64
	maxScore    = 1e6
)

// report is spamd's answer to REPORT.
type report struct {
	// score is the sum of the rules' scores; required is the score from which
	// spamd calls a message spam.
	score, required float64
	// rules are those that matched, with those first whose scores are furthest from
	// zero.
	rules []rule
}

// rule is a rule that matched, with the score as the report has it, which is
// rounded.
type rule struct {
	name  string
	score float64
}

// errEnded is returned when an answer ends too early.
var errEnded = errors.New("connection closed in the middle of the answer")

// readReport reads an answer: the status line "SPAMD/1.1 0 EX_OK", fields, of
// which Spam and Content-length must be there, an empty line and the report.
func readReport(r io.Reader) (report, error) {
	in, err := readStatus(r)
	if err != nil {
		return report{}, err
	}
	found, length, err := readHead(in)
	if err != nil {
		return report{}, err
	}
	text := make([]byte, min(length, maxReport))
	if _, err := io.ReadFull(in, text); err != nil {
		return report{}, fmt.Errorf("read report: %w", ended(err))
	}
	if _, err := io.CopyN(io.Discard, in, length-int64(len(text))); err != nil {
		return report{}, fmt.Errorf("read report: %w", ended(err))
	}
	found.rules = parseRules(text)
	return found, nil
}

// readStatus reads the first line of an answer, and gives what reads on.
func readStatus(r io.Reader) (*bufio.Reader, error) {
	in := bufio.NewReaderSize(r, maxLine)
	line, err := readLine(in)
	if err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	return in, checkStatus(line)
}

// readLine gives a line without its end.
func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("a line has more than %d bytes, beginning with %.80q; is it spamd that listens there?", maxLine, line)
	case errors.Is(err, io.EOF):
		return "", fmt.Errorf("%w, after %.80q", errEnded, line)
	case err != nil:
		return "", err
	}
	return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
}

func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errEnded
	}
	return err
}

// checkStatus wants "SPAMD/VERSION 0 TEXT". spamd says 1.0, 1.1 or 1.5 according
// to what it answers, so the version is not looked at.
func checkStatus(line string) error {
	version, rest, _ := strings.Cut(line, " ")
	code, text, _ := strings.Cut(rest, " ")
	_, isSpamd := strings.CutPrefix(version, "SPAMD/")
	n, err := strconv.ParseUint(code, 10, 16)
	if !isSpamd || err != nil {
		return fmt.Errorf("answer %.80q makes no sense; is it spamd that listens there?", line)
	}
	if n != 0 {
		return &refusal{code: n, text: text}
	}
	return nil
}

// refusal is an answer other than 0, with a code of sysexits.h.
type refusal struct {
	code uint64
	text string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("spamd answers with the error %d: %.200q", r.code, r.text)
}

// Permanent tells whether the message itself is refused: as one that cannot be read
// (EX_DATAERR), or as too large (EX_TOOBIG).
func (r *refusal) Permanent() bool { return r.code == 65 || r.code == 98 }

// readHead reads the fields up to the empty line.
func readHead(in *bufio.Reader) (found report, length int64, err error) {
	length = -1
	scored := false
	for range maxHead {
		line, err := readLine(in)
		if err != nil {
			return report{}, 0, fmt.Errorf("read fields: %w", err)
		}
		if line == "" {
			if !scored || length < 0 {
				return report{}, 0, errors.New("answer has no score or no length; is it spamd that listens there?")
			}
			return found, length, nil
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case !ok:
			return report{}, 0, fmt.Errorf("answer has the line %.80q, which is no field", line)
		case strings.EqualFold(name, "Spam"):
			again := scored
			if found.score, found.required, scored = parseSpam(value); !scored || again {
				return report{}, 0, fmt.Errorf("answer has the line %.80q, which is no single score", line)
			}
		case strings.EqualFold(name, "Content-length"):
			again := length >= 0
			if length, err = strconv.ParseInt(value, 10, 64); err != nil || length < 0 || length > maxBody || again {
				return report{}, 0, fmt.Errorf("answer has the line %.80q, which is no single length up to %d", line, maxBody)
			}
		}
	}
	return report{}, 0, fmt.Errorf("answer has more than %d fields", maxHead)
}

// parseSpam reads "True ; 7.3 / 5.0". Whether that is spam follows from the
// scores; the word must be one that spamd uses.
func parseSpam(value string) (score, required float64, ok bool) {
	word, scores, ok := strings.Cut(value, ";")
	if !ok || !slices.Contains([]string{"True", "False", "Yes", "No"}, strings.TrimSpace(word)) {
		return 0, 0, false
	}
	first, second, ok := strings.Cut(scores, "/")
	if !ok {
		return 0, 0, false
	}
	score, ok = parseScore(strings.TrimSpace(first))
	if !ok {
		return 0, 0, false
	}
	required, ok = parseScore(strings.TrimSpace(second))
	return score, required, ok
}

// parseScore reads digits with a sign and a point. A score beyond maxScore is
// none.
func parseScore(s string) (float64, bool) {
	if strings.Trim(s, "-0123456789.") != "" || strings.ContainsFunc(s, func(r rune) bool { return r > '9' }) {
		return 0, false
	}
	score, err := strconv.ParseFloat(s, 64)
	if err != nil || score > maxScore || score < -maxScore {
		return 0, false
	}
	return score + 0, true // -0 becomes 0
}

// parseRules finds the rules in the table that SpamAssassin's reports have:
//
//	 pts rule name              description
//	---- ---------------------- --------------------------------
//	 2.7 MISSING_DATE           Missing Date: header
//
// The text above quotes the message, so the table begins at the last such line of
// dashes. Lines that go on with a description are far to the right. A report with
// a template of its own may have no table; then the rules are unknown.
func parseRules(text []byte) []rule {
	const dashes = "\n---- --"
	i := bytes.LastIndex(text, []byte(dashes))
	if i < 0 {
		return nil
	}
	var rules []rule
	for line := range strings.Lines(string(text[i+1:])) {
		words := strings.Fields(line)
		if len(words) < 2 || strings.HasPrefix(line, "          ") || !isRuleName(words[1]) {
			continue
		}
		if score, ok := parseScore(words[0]); ok {
			rules = append(rules, rule{name: words[1], score: score})
		}
		if len(rules) == maxRules {
			break
		}
	}
	slices.SortFunc(rules, func(a, b rule) int {
		// spamd gives those of one score in any order.
		return cmp.Or(cmp.Compare(math.Abs(b.score), math.Abs(a.score)), strings.Compare(a.name, b.name))
	})
	return rules
}

// isRuleName tells whether s can be the name of a rule
// (Mail::SpamAssassin::Conf), bounded.
func isRuleName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return len(s) <= maxRuleName
}
