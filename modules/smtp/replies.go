package smtp

import (
	"bytes"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/mox-like/mox-like/core/mail"
)

// corrected are replies of go-smtp that RFC 5321, 4954 and 3463 have otherwise.
var corrected = map[string]string{
	"250 2.0.0 I have successfully done nothing":                "250 2.0.0 OK",
	"502 5.5.1 Please introduce yourself first.":                "503 5.5.1 Send EHLO or HELO first",
	"502 5.5.1 Missing MAIL FROM command.":                      "503 5.5.1 Send MAIL first",
	"502 5.5.1 Missing RCPT TO command.":                        "503 5.5.1 No valid recipients, send RCPT first",
	"501 5.5.2 Was expecting MAIL arg syntax of FROM:<address>": "501 5.1.7 Syntax: MAIL FROM:<address>",
	"501 5.5.2 Was expecting RCPT arg syntax of TO:<address>":   "501 5.1.3 Syntax: RCPT TO:<address>",
	"501 5.5.4 Unable to parse SIZE as an integer":              "501 5.5.4 SIZE is not a number of bytes",
	"500 5.5.4 Malformed AUTH parameter value":                  "501 5.5.4 Malformed AUTH parameter",
	"500 5.5.4 Malformed AUTH parameter mailbox":                "501 5.5.4 Malformed AUTH parameter",
	"500 5.5.4 Unknown MAIL FROM argument":                      "555 5.5.4 MAIL parameter not recognized",
	"500 5.5.4 Unknown RCPT TO argument":                        "555 5.5.4 RCPT parameter not recognized",
	"502 5.5.4 Missing parameter":                               "501 5.5.4 Syntax: AUTH mechanism [initial-response]",
	"454 4.7.0 Invalid base64 data":                             "501 5.5.2 Cannot decode base64",
	"501 5.0.0 Negotiation cancelled":                           "501 5.7.0 Authentication cancelled",
	"235 2.0.0 Authentication succeeded":                        "235 2.7.0 Authentication succeeded",
	"354 Go ahead. End your data with <CR><LF>.<CR><LF>":        "354 End data with <CR><LF>.<CR><LF>",
	"421 4.0.0 Internal server error":                           "421 4.3.0 Internal error, closing the connection",
	"252 2.5.0 Cannot VRFY user, but will accept message":       "252 2.5.1 Cannot VRFY user, but will take the message and try",
	"501 5.5.4 DATA command should not have any arguments":      "501 5.5.4 Syntax: DATA",
	"552 5.3.4 Max message size exceeded":                       "552 5.3.4 Message is larger than this server takes",
	"501 5.5.2 Domain/address argument required for HELO":       "501 5.5.4 Syntax: EHLO hostname",
	"501 5.5.4 Unable to parse MAIL ESMTP parameters":           "501 5.5.4 Cannot parse the parameters of MAIL",
	"501 5.5.4 Unable to parse RCPT ESMTP parameters":           "501 5.5.4 Cannot parse the parameters of RCPT",
}

// translate puts a line of go-smtp's replies right. The result is valid until
// the next call.
func (s *session) translate(line []byte) []byte {
	text := bytes.TrimRight(line, "\r\n")
	if better, ok := corrected[string(text)]; ok {
		if hasPrefix([]byte(better), "421 ") {
			better += " (id " + s.mail.ID + ")"
		}
		return s.text(better)
	}
	switch {
	case hasPrefix(text, "250 2.0.0 Roger, "):
		return s.text("250 2.1.0 Sender OK")
	case hasPrefix(text, "250 2.0.0 I'll make sure "):
		return s.text("250 2.1.5 Recipient OK")
	case hasPrefix(text, "504 5.5.4 ") && bytes.HasSuffix(text, []byte(" is not implemented")):
		// It is of an extension that is not offered.
		return s.text("555 5.5.4 Parameter not recognized")
	case hasPrefix(text, "250-Hello "), hasPrefix(text, "250 2.0.0 Hello "):
		return s.text(string(text[:4]) + s.listener.hostname + " greets " + s.mail.Helo)
	}
	return line
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// text makes a line of a string.
func (s *session) text(reply string) []byte {
	s.line = append(append(s.line[:0], reply...), "\r\n"...)
	return s.line
}

// say answers a command in go-smtp's place.
func (s *session) say(r mail.Reply) { s.answer(s.text(r.String())) }

// smtpError gives a reply to go-smtp, which takes replies of any kind as errors.
func smtpError(r mail.Reply) error {
	return &gosmtp.SMTPError{Code: r.Code, EnhancedCode: gosmtp.EnhancedCode(r.Enhanced), Message: r.Text}
}

// withID makes a reply of the listener's own rules one by whose identifier the
// operator finds the decision.
func withID(r mail.Reply, id string) mail.Reply {
	return mail.Outcome{Verdict: mail.Verdict{Reply: r}}.Refusal(id)
}
