package smtp

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

// hello is the beginning of most dialogs.
const hello = `
	<- 220 mx.example.test ESMTP Service Ready
	-> EHLO client.example.org
	<-- 250 SIZE *
`

// envelope opens a message.
const envelope = `
	-> MAIL FROM:<bob@example.org>
	<- 250 2.1.0 Sender OK
	-> RCPT TO:<alice@example.test>
	<- 250 2.1.5 Recipient OK
`

func TestDialog(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, body, script string }{
		{"a message and what EHLO offers", "", `
			<- 220 mx.example.test ESMTP Service Ready
			-> EHLO client.example.org
			<- 250-mx.example.test greets client.example.org
			<- 250-PIPELINING
			<- 250-8BITMIME
			<- 250-ENHANCEDSTATUSCODES
			<- 250-CHUNKING
			<- 250-STARTTLS
			<- 250-SMTPUTF8
			<- 250 SIZE 25000000
			-> MAIL FROM:<bob@example.org> SIZE=100 BODY=8BITMIME
			<- 250 2.1.0 Sender OK
			-> RCPT TO:<alice@example.test>
			<- 250 2.1.5 Recipient OK
			-> DATA
			<- 354 End data with <CR><LF>.<CR><LF>
			=> "Subject: hi\r\n\r\nhi\r\n.\r\n"
			<- 250 2.0.0 OK: kept as ID
			-> QUIT
			<- 221 2.0.0 Bye
			EOF`},
		{"HELO", `tls = "off"`, `
			<- 220 *
			-> helo client.example.org
			<- 250 mx.example.test greets client.example.org
			` + envelope},
		{"greeting needs a name", "", `
			<- 220 *
			-> EHLO
			<- 501 5.5.4 Syntax: EHLO hostname
			-> HELO ` + strings.Repeat("x", 256) + `
			<- 501 5.5.4 Syntax: EHLO hostname
			-> MAIL FROM:<bob@example.org>
			<- 503 5.5.1 Send EHLO or HELO first`},
		{"commands without a message", "", hello + `
			-> NOOP
			<- 250 2.0.0 OK
			-> noop ignored
			<- 250 2.0.0 OK
			-> RSET
			<- 250 2.0.0 Session reset
			-> HELP
			<- 214 2.0.0 This server speaks RFC 5321
			-> VRFY alice
			<- 252 2.5.1 Cannot VRFY user, but will take the message and try
			-> VRFY nobody
			<- 252 2.5.1 Cannot VRFY user, but will take the message and try
			-> EXPN staff
			<- 502 5.5.1 Command not implemented
			-> TURN
			<- 502 5.5.1 Command not implemented
			-> ETRN example.test
			<- 502 5.5.1 Command not implemented
			-> LHLO client.example.org
			<- 500 5.5.1 Command not recognized
			-> GET / HTTP/1.1
			<- 500 5.5.1 Command not recognized
			=> "\r\n"
			<- 500 5.5.1 Command not recognized
			=> "NOOP \t \r\n"
			<- 250 2.0.0 OK
			=> "NO\xc3\xb6P\r\n"
			<- 500 5.5.1 Command not recognized
			=> "NOOP \xc3\xb6\r\n"
			<- 501 5.5.2 Only US-ASCII is allowed here
			=> "MAIL FROM:<\xff@example.org>\r\n"
			<- 501 5.5.2 Not valid UTF-8`},
		{"commands out of order", "", hello + `
			-> RCPT TO:<alice@example.test>
			<- 503 5.5.1 Send MAIL first
			-> DATA
			<- 503 5.5.1 No valid recipients, send RCPT first
			-> BDAT 0 LAST
			<- 503 5.5.1 No valid recipients, send RCPT first
			-> MAIL FROM:<bob@example.org>
			<- 250 2.1.0 Sender OK
			-> MAIL FROM:<bob@example.org>
			<- 503 5.5.1 A message is open already, finish it or send RSET
			-> DATA
			<- 503 5.5.1 No valid recipients, send RCPT first
			-> RCPT TO:<alice@example.test>
			<- 250 2.1.5 Recipient OK
			-> DATA now
			<- 501 5.5.4 Syntax: DATA
			-> RSET
			<- 250 2.0.0 Session reset
			-> RCPT TO:<alice@example.test>
			<- 503 5.5.1 Send MAIL first
			-> MAIL FROM:<bob@example.org>
			<- 250 2.1.0 Sender OK
			-> EHLO client.example.org
			<-- 250 SIZE *
			-> RCPT TO:<alice@example.test>
			<- 503 5.5.1 Send MAIL first`},
		{"reverse-paths", "", hello + `
			-> MAIL
			<- 501 5.1.7 Syntax: MAIL FROM:<address>
			-> MAIL bob@example.org
			<- 501 5.1.7 Syntax: MAIL FROM:<address>
			-> MAIL FROM:<bob>
			<- 501 5.1.7 Syntax: MAIL FROM:<address>
			-> MAIL FROM:<bob@example.org@example.net>
			<- 501 5.1.7 Sender: the part after the @ is not a domain name (id ID)
			-> MAIL FROM:<bob..b@example.org>
			<- 501 5.1.7 Sender: not an address of the form local-part@domain (id ID)
			-> MAIL FROM:<bob@exa mple.org>
			<- 501 5.1.7 Syntax: MAIL FROM:<address>
			-> mail from: <>
			<- 250 2.1.0 Sender OK
			-> RSET
			<- 250 *
			-> MAIL FROM:<@relay.example.net,@other.example:bob@example.org>
			<- 250 2.1.0 Sender OK
			-> RSET
			<- 250 *
			-> MAIL FROM:<"bob@home \"x\""@example.org>
			<- 250 2.1.0 Sender OK
			-> RSET
			<- 250 *
			-> MAIL FROM:bob@[192.0.2.1]
			<- 250 2.1.0 Sender OK`},
		{"parameters of MAIL", "", hello + `
			-> MAIL FROM:<bob@example.org> COLOUR=red
			<- 555 5.5.4 MAIL parameter not recognized
			-> MAIL FROM:<bob@example.org> RET=HDRS
			<- 555 5.5.4 Parameter not recognized
			-> MAIL FROM:<bob@example.org> REQUIRETLS
			<- 555 5.5.4 Parameter not recognized
			-> MAIL FROM:<bob@example.org> BODY=BINARYMIME
			<- 555 5.5.4 Parameter not recognized
			-> MAIL FROM:<bob@example.org> BODY=9BIT
			<- 501 5.5.4 Unknown BODY value
			-> MAIL FROM:<bob@example.org> SIZE=x
			<- 501 5.5.4 SIZE is not a number of bytes
			-> MAIL FROM:<bob@example.org> SIZE=a=b
			<- 501 5.5.4 Cannot parse the parameters of MAIL
			-> MAIL FROM:<bob@example.org> AUTH=+
			<- 501 5.5.4 Malformed AUTH parameter
			-> MAIL FROM:<bob@example.org> AUTH=bob
			<- 501 5.5.4 Malformed AUTH parameter
			-> MAIL FROM:<bob@example.org> SIZE=25000001
			<- 552 5.3.4 Message is larger than this server takes
			-> MAIL FROM:<bob@example.org> AUTH=<> BODY=7BIT size=25000000 SMTPUTF8
			<- 250 2.1.0 Sender OK`},
		{"forward-paths", "", hello + `
			-> MAIL FROM:<bob@example.org>
			<- 250 *
			-> RCPT
			<- 501 5.1.3 Syntax: RCPT TO:<address>
			-> RCPT TO:<>
			<- 501 5.1.3 Syntax: RCPT TO:<address>
			-> RCPT TO:<alice>
			<- 501 5.1.3 Syntax: RCPT TO:<address>
			-> RCPT TO:<alice@-.test>
			<- 501 5.1.3 Recipient: the part after the @ is not a domain name (id ID)
			-> RCPT TO:<` + strings.Repeat("a", 65) + `@example.test>
			<- 501 5.1.3 Recipient: local-part over 64 octets or domain over 255 (id ID)
			-> RCPT TO:<alice@example.test> NOTIFY=NEVER
			<- 555 5.5.4 Parameter not recognized
			-> RCPT TO:<alice@example.test> ORCPT=rfc822;alice@example.test
			<- 555 5.5.4 Parameter not recognized
			-> RCPT TO:<alice@example.test> COLOUR
			<- 555 5.5.4 RCPT parameter not recognized
			-> RCPT TO:<alice@example.net>
			<- 550 5.7.1 Relaying denied (id ID)
			-> RCPT TO:<alice%example.net@example.test>
			<- 250 2.1.5 Recipient OK
			-> RCPT TO:<PostMaster>
			<- 250 2.1.5 Recipient OK
			-> RCPT TO:<postmaster> COLOUR
			<- 555 5.5.4 RCPT parameter not recognized
			-> RCPT TO:<alice@example.net>
			<- 550 5.7.1 Relaying denied (id ID)`},
		{"too many recipients", "max_recipients = 2", hello + envelope + `
			-> RCPT TO:<bert@example.test>
			<- 250 *
			-> RCPT TO:<carol@example.test>
			<- 452 4.5.3 Too many recipients, send the message again to the others (id ID)
			-> DATA
			<- 354 *`},
		{"internationalized addresses", "", hello + `
			-> MAIL FROM:<böb@example.org>
			<- 553 5.6.7 This sender needs the parameter SMTPUTF8 (id ID)
			-> MAIL FROM:<bob@bücher.example>
			<- 553 5.6.7 This sender needs the parameter SMTPUTF8 (id ID)
			-> MAIL FROM:<bob@xn--bcher-kva.example>
			<- 250 2.1.0 Sender OK
			-> RCPT TO:<älice@example.test>
			<- 553 5.6.7 This recipient needs the parameter SMTPUTF8 of MAIL (id ID)
			-> RSET
			<- 250 *
			-> MAIL FROM:<böb@bücher.example> SMTPUTF8
			<- 250 2.1.0 Sender OK
			-> RCPT TO:<älice@example.test>
			<- 250 2.1.5 Recipient OK
			-> VRFY älice
			<- 252 *`},
		{"message too large", `max_message_size = "64KB"`, hello + envelope + `
			-> DATA
			<- 354 *
			=> "` + strings.Repeat(strings.Repeat("x", 78)+`\r\n`, 801) + `.\r\n"
			<- 552 5.3.4 Message is larger than this server takes (id ID)
			` + envelope},
		{"header section too large", "", hello + envelope + `
			-> DATA
			<- 354 *
			=> "` + strings.Repeat("X-Filler: "+strings.Repeat("x", 68)+`\r\n`, 3400) + `\r\n.\r\n"
			<- 552 5.3.4 Header section is larger than this server takes (id ID)`},
		{"too many header fields", "", hello + envelope + `
			-> DATA
			<- 354 *
			=> "` + strings.Repeat(`X:\r\n`, 2001) + `\r\n.\r\n"
			<- 552 5.3.4 Header section is larger than this server takes (id ID)`},
		{"first line that would belong to Received", "", hello + envelope + `
			-> DATA
			<- 354 *
			=> "\tby forged.example\r\nFrom: a\r\n\r\n.\r\n"
			<- 554 5.6.0 The message begins with white space (id ID)
			` + envelope + `
			-> DATA
			<- 354 *
			=> " \r\n\r\n.\r\n"
			<- 554 5.6.0 The message begins with white space (id ID)
			` + envelope + `
			-> DATA
			<- 354 *
			=> "\r\n by nobody\r\n.\r\n"
			<- 250 *`},
		{"controls in an address", "", hello + `
			=> "MAIL FROM:<\"\xc2\x9b2J\"@example.org> SMTPUTF8\r\n"
			<- 501 5.1.7 Sender: not an address of the form local-part@domain (id ID)`},
		{"line of a message too long", `limits { line_length = "1000B" }`, hello + envelope + `
			-> DATA
			<- 354 *
			=> "` + strings.Repeat("x", 998) + `\r\n.\r\n"
			<- 250 *
			` + envelope + `
			-> DATA
			<- 354 *
			=> "` + strings.Repeat("x", 999) + `\r\n.\r\n"
			<- 554 5.6.0 The message has a line that is too long (id ID)`},
		{"message that goes in circles", "max_received = 10", hello + envelope + `
			-> DATA
			<- 354 *
			=> "` + strings.Repeat(`Received: from a\r\n\tby b\r\n`, 11) + `\r\n.\r\n"
			<- 554 5.4.6 Too many Received fields: the message goes in circles (id ID)
			` + envelope + `
			-> DATA
			<- 354 *
			=> "` + strings.Repeat(`Received: from a\r\n\tby b\r\n`, 10) + `\r\n.\r\n"
			<- 250 *`},
		{"disk full at the target", "", hello + `
			-> MAIL FROM:<bob@example.org>
			<- 250 *
			-> RCPT TO:<full@example.test>
			<- 250 *
			-> DATA
			<- 354 *
			=> "\r\nhi\r\n.\r\n"
			<- 452 4.3.1 Insufficient system storage (id ID)
			` + envelope},
		{"a batch and its replies", "", hello + `
			=> "MAIL FROM:<bob@example.org>\r\nRCPT TO:<alice@example.net>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n"
			<- 250 2.1.0 Sender OK
			<- 550 5.7.1 Relaying denied (id ID)
			<- 250 2.1.5 Recipient OK
			<- 354 *
			=> "\r\nhi\r\n.\r\nNOOP\r\nQUIT\r\n"
			<- 250 2.0.0 OK: kept as ID
			<- 250 2.0.0 OK
			<- 221 2.0.0 Bye
			EOF`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			newKit(t, options{body: test.body}).dialog(t, test.script)
		})
	}
}

// TestEnvelope pins what handlers see.
func TestEnvelope(t *testing.T) {
	t.Parallel()
	k := newKit(t, options{})
	k.dialog(t, hello+`
		-> MAIL FROM:<"b@b"@Example.ORG> SIZE=7 SMTPUTF8
		<- 250 *
		-> RCPT TO:<postmaster>
		<- 250 *
		-> RCPT TO:<alice@example.net>
		<- 550 *
		-> RCPT TO:<Alice@xn--bcher-kva.test>
		<- 250 *
		-> DATA
		<- 354 *
		=> "\r\n..hi\r\n.\r\n"
		<- 250 *
	`)
	envelope, message := k.sink.last(t)
	if got, want := envelope.ReversePath.LocalPart, "b@b"; got != want {
		t.Errorf("local-part %q, want %q", got, want)
	}
	var got []string
	for _, r := range envelope.Recipients {
		got = append(got, r.Address.String())
	}
	if diff := cmp.Diff([]string{"postmaster", "Alice@bücher.test"}, got); diff != "" {
		t.Errorf("recipients (-want +got):\n%s", diff)
	}
	if envelope.Size != 7 || !envelope.SMTPUTF8 {
		t.Errorf("size %d, SMTPUTF8 %t", envelope.Size, envelope.SMTPUTF8)
	}
	if !strings.HasSuffix(message, "\r\n\r\n.hi\r\n") {
		t.Errorf("message %q does not end in the unstuffed line", message)
	}
	if strings.Contains(message, "for <") {
		t.Errorf("Received names one of two recipients:\n%s", message)
	}
}

// TestSpoolBudget pins that messages over the common bound are to come again, that
// the others go on, and that the bound does not shrink.
func TestSpoolBudget(t *testing.T) {
	t.Parallel()
	k := newListener(t, options{body: "limits { spool = \"1MB\" }"})
	k.listener.spool = new(mail.SpoolBudget)
	k.listen(t)
	lines := func(n int) string { return strings.Repeat(strings.Repeat("x", 98)+`\r\n`, n) }
	k.dialog(t, hello+strings.Repeat(envelope+`
		-> DATA
		<- 354 *
		=> "\r\n`+lines(6000)+`.\r\n"
		<- 452 4.3.1 Insufficient system storage, try again later (id ID)
		`+envelope+`
		=> "BDAT 600000\r\n`+lines(6000)+`"
		<- 452 4.3.1 Insufficient system storage, try again later (id ID)
		`+envelope+`
		-> DATA
		<- 354 *
		=> "\r\n`+lines(4000)+`.\r\n"
		<- 250 *`, 5))
}
