package imap_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core"
)

const simple = `From: Bob <bob@example.org>
To: alice@example.test
Subject: Hello
Date: Mon, 02 Nov 2026 10:00:00 +0100
Message-ID: <one@example.org>

Hi there
`

const multipart = `From: Bob <bob@example.org>
To: alice@example.test
Subject: Two parts
Date: Tue, 03 Nov 2026 10:00:00 +0100
Message-ID: <two@example.org>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe
--b
Content-Type: application/octet-stream
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename=a.bin

AAEC
--b--
`

// TestDialogs plays each dialog with an account of its own, in whose INBOX are
// two messages: simple and multipart.
func TestDialogs(t *testing.T) {
	t.Parallel()
	s := serve(t, "max_message_size = \"64KB\"")
	cases := []struct{ name, script string }{
		{"capability", `
			-> b CAPABILITY
			<- * CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID ENABLE IDLE NAMESPACE CHILDREN UNSELECT UIDPLUS MOVE ESEARCH SEARCHRES LIST-EXTENDED LIST-STATUS SPECIAL-USE CREATE-SPECIAL-USE STATUS=SIZE BINARY APPENDLIMIT=64000
			<- b OK CAPABILITY completed
			-> c NAMESPACE
			<- * NAMESPACE (("" "/")) NIL NIL
			<- c OK NAMESPACE completed
			-> d ID ("name" "test")
			<- * ID ("name" "mox-like")
			<- d OK ID completed
			-> e ENABLE UTF8=ACCEPT
			<- * ENABLED
			<- e OK ENABLE completed
			-> f LOGIN x y
			<~ f BAD .*
			-> g CHECK
			<- g OK CHECK completed
			-> h NOOP
			<- h OK NOOP completed
			-> i LOGOUT
			<- * BYE Logging out
			<- i OK LOGOUT completed
		`},
		{"select", `
			-> b SELECT INBOX
			<- * 2 EXISTS
			<~ \* \d RECENT
			<~ \* OK \[UIDVALIDITY (?P<validity>\d+)\] .*
			<- * OK [UIDNEXT 3] Predicted next UID
			<~ \* FLAGS \(.*\\Seen.*\)
			<~ \* OK \[PERMANENTFLAGS \(.*\\\*\)\] .*
			<- b OK [READ-WRITE] SELECT completed
			-> c EXAMINE inbox
			<~ \* OK \[CLOSED\] .*
			<* c OK [READ-ONLY]
			-> d SELECT nowhere
			<~ \* OK \[CLOSED\] .*
			<~ d NO \[NONEXISTENT\] .*
			-> e FETCH 1 FLAGS
			<~ e BAD .*
			-> f SELECT INBOX
			<* f OK [READ-WRITE]
			-> g UNSELECT
			<- g OK UNSELECT completed
			-> h STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE DELETED APPENDLIMIT)
			<~ \* STATUS INBOX \(MESSAGES 2 UIDNEXT 3 UIDVALIDITY $validity UNSEEN 2 DELETED 0 SIZE \d+ APPENDLIMIT 64000\)
			<- h OK STATUS completed
			-> i STATUS nowhere (MESSAGES)
			<~ i NO \[NONEXISTENT\] .*
		`},
		{"read-only", `
			-> b EXAMINE INBOX
			<* * OK [PERMANENTFLAGS ()]
			<* b OK [READ-ONLY]
			-> c STORE 1 +FLAGS (\Seen \Deleted)
			<~ c NO \[READ-ONLY\] .*
			-> d UID STORE 1 FLAGS.SILENT ()
			<~ d NO \[READ-ONLY\] .*
			-> e EXPUNGE
			<~ e NO \[READ-ONLY\] .*
			-> f UID EXPUNGE 1
			<~ f NO \[READ-ONLY\] .*
			-> g MOVE 1 Trash
			<~ g NO \[READ-ONLY\] .*
			-> h FETCH 1 (BODY[TEXT])
			<- * 1 FETCH (BODY[TEXT] {10}
			<- Hi there
			<- )
			<- h OK FETCH completed
			-> i COPY 1 Trash
			<~ i OK \[COPYUID \d+ 1 1\] .*
			-> j CLOSE
			<- j OK CLOSE completed
			-> k STATUS INBOX (MESSAGES UNSEEN)
			<- * STATUS INBOX (MESSAGES 2 UNSEEN 2)
			<- k OK STATUS completed
		`},
		{"fetch", `
			-> b SELECT INBOX
			<* b OK
			-> c FETCH 1 (UID FLAGS RFC822.SIZE INTERNALDATE)
			<~ \* 1 FETCH \(UID 1 FLAGS \(.*\) INTERNALDATE "[^"]+" RFC822.SIZE 151\)
			<- c OK FETCH completed
			-> d UID FETCH 1:* ENVELOPE
			<- * 1 FETCH (UID 1 ENVELOPE ("Mon, 02 Nov 2026 10:00:00 +0100" "Hello" (("Bob" NIL "bob" "example.org")) (("Bob" NIL "bob" "example.org")) (("Bob" NIL "bob" "example.org")) ((NIL NIL "alice" "example.test")) NIL NIL NIL "<one@example.org>"))
			<~ \* 2 FETCH \(UID 2 ENVELOPE \("Tue, 03 Nov 2026 10:00:00 \+0100" "Two parts" .*\)\)
			<- d OK UID FETCH completed
			-> e FETCH 2 BODYSTRUCTURE
			<~ (?i)\* 2 FETCH \(BODYSTRUCTURE \(\("text" "plain" \("charset" "utf-8"\) NIL NIL "quoted-printable" 15 \d NIL NIL NIL NIL\)\("application" "octet-stream" NIL NIL NIL "base64" 4 NIL \("attachment" \("filename" "a.bin"\)\) NIL NIL\) "mixed" \("boundary" "b"\) NIL NIL NIL\)\)
			<- e OK FETCH completed
			-> f FETCH 2 BODY
			<~ (?i)\* 2 FETCH \(BODY \(\("text" "plain" \("charset" "utf-8"\) NIL NIL "quoted-printable" 15 \d\)\("application" "octet-stream" NIL NIL NIL "base64" 4\) "mixed"\)\)
			<- f OK FETCH completed
			-> g FETCH 2 (BODY.PEEK[1] BODY.PEEK[2.MIME] BODY.PEEK[HEADER.FIELDS (Subject "message-id" x)] BODY.PEEK[3])
			<- * 2 FETCH (BODY[1] {15}
			<- Gr=C3=BC=C3=9Fe BODY[2.MIME] {126}
			<- Content-Type: application/octet-stream
			<- Content-Transfer-Encoding: base64
			<- Content-Disposition: attachment; filename=a.bin
			<-
			<~  BODY\[HEADER.FIELDS \("?Subject"? "?message-id"? "?x"?\)\] \{53\}
			<- Subject: Two parts
			<- Message-ID: <two@example.org>
			<-
			<~  BODY\[3\] \{0\}
			<- )
			<- g OK FETCH completed
			-> h FETCH 1 (BODY.PEEK[HEADER.FIELDS.NOT (From To Date Message-ID)] BODY.PEEK[TEXT]<3.100> BODY.PEEK[]<0.5>)
			<~ \* 1 FETCH \(BODY\[HEADER.FIELDS.NOT \(.*\)\] \{18\}
			<- Subject: Hello
			<-
			<~  BODY\[TEXT\]<3> \{7\}
			<- there
			<~  BODY\[\]<0> \{5\}
			<- From:)
			<- h OK FETCH completed
			-> i UID FETCH 2 (BINARY.SIZE[1] BINARY.PEEK[1] BINARY.SIZE[2])
			<- * 2 FETCH (UID 2 BINARY[1] ~{7}
			<- Grüße BINARY.SIZE[1] 7 BINARY.SIZE[2] 3)
			<- i OK UID FETCH completed
			-> j FETCH 1 BINARY.PEEK[1]<3.2>
			<- * 1 FETCH (BINARY[1] ~{2}
			<- th)
			<- j OK FETCH completed
			-> t FETCH 1 (` + strings.Repeat(`BINARY.SIZE[1] `, 10) + `BINARY.PEEK[1])
			<~ t NO \[LIMIT\] .*
			-> k FETCH 1:2 FLAGS
			<~ \* 1 FETCH \(FLAGS \((\\Recent)?\)\)
			<~ \* 2 FETCH \(FLAGS \((\\Recent)?\)\)
			<- k OK FETCH completed
			# reading sets \Seen, and says so once
			-> l FETCH 1 BODY[TEXT]
			<~ \* 1 FETCH \(FLAGS \(\\Seen.*\) BODY\[TEXT\] \{10\}
			<- Hi there
			<- )
			<- l OK FETCH completed
			-> m FETCH 1 RFC822.TEXT
			<- * 1 FETCH (RFC822.TEXT {10}
			<- Hi there
			<- )
			<- m OK FETCH completed
			-> n FETCH 1 RFC822.HEADER
			<- * 1 FETCH (RFC822.HEADER {141}
			<* n OK
			-> o FETCH 1 BODY[TEXT]<0.0>
			<~ o BAD .*
			-> p FETCH 1 (FLAGS
			<~ p BAD .*
			-> q FETCH 1:x FLAGS
			<~ q BAD .*
			-> r FETCH 9 FLAGS
			<~ r (OK|NO|BAD) .*
			-> s NOOP
			<- s OK NOOP completed
		`},
		{"store", `
			-> b SELECT INBOX
			<* b OK
			-> c STORE 1 +FLAGS (\Flagged $Label1)
			<~ \* 1 FETCH \(FLAGS \(.*\)\)
			<~ \* FLAGS \(.*\$Label1.*\)
			<- c OK STORE completed
		`},
		{"store flags", `
			-> b SELECT INBOX
			<* b OK
			-> c UID STORE 1 FLAGS (\Seen \Answered)
			<~ \* 1 FETCH \(UID 1 FLAGS \(.*\\Seen.*\)\)
			<- c OK UID STORE completed
			-> d STORE 1 -FLAGS.SILENT (\Seen)
			<- d OK STORE completed
			-> e FETCH 1 FLAGS
			<~ \* 1 FETCH \(FLAGS \(\\Answered.*\)\)
			<- e OK FETCH completed
			-> f STORE 1 +FLAGS (\Nonsense)
			<~ f BAD .*
			-> g STORE 1 +FLAGS (\*)
			<~ g BAD .*
			-> h STORE 1 FLAGS (\Recent)
			<~ \* 1 FETCH \(FLAGS \(.*\)\)
			<- h OK STORE completed
			-> i STORE 1 LABELS (x)
			<~ i BAD .*
		`},
		{"search", `
			-> b SELECT INBOX
			<* b OK
			-> c SEARCH SUBJECT hello
			<- * SEARCH 1
			<- c OK SEARCH completed
			-> d UID SEARCH CHARSET UTF-8 BODY {7}
			<~ \+ .*
			-> Grüße
			<- * SEARCH 2
			<- d OK UID SEARCH completed
			-> e SEARCH RETURN (MIN MAX COUNT ALL) NOT DELETED
			<- * ESEARCH (TAG "e") ALL 1:2 MIN 1 MAX 2 COUNT 2
			<- e OK SEARCH completed
			-> f UID SEARCH RETURN () FROM nobody
			<- * ESEARCH (TAG "f") UID
			<- f OK UID SEARCH completed
			-> g SEARCH OR FLAGGED (SENTON 3-Nov-2026 LARGER 10)
			<- * SEARCH 2
			<- g OK SEARCH completed
			-> h SEARCH FROM nobody
			<- * SEARCH
			<- h OK SEARCH completed
			-> i SEARCH CHARSET KOI8-R ALL
			<~ i NO \[BADCHARSET.*
			-> j SEARCH RETURN (SAVE) SUBJECT parts
			<* j OK
			-> k FETCH $ (UID)
			<- * 2 FETCH (UID 2)
			<- k OK FETCH completed
			-> l SEARCH HEADER Message-ID one@example.org
			<- * SEARCH 1
			<- l OK SEARCH completed
			-> m SEARCH NONSENSE
			<~ m BAD .*
			-> p SEARCH ` + strings.Repeat(`BODY x `, 21) + `TEXT y
			<~ p NO \[LIMIT\] .*
			-> n SEARCH 1,2 UID 1:*
			<- * SEARCH 1 2
			<- n OK SEARCH completed
			-> o UID SEARCH SENTSINCE 1-Foo-2026
			<~ o BAD .*
		`},
		{"copy, move, expunge", `
			-> b SELECT INBOX
			<* b OK
			-> c COPY 1:2 Archive2
			<~ c NO \[TRYCREATE\] .*
			-> d CREATE Archive2
			<- d OK CREATE completed
			-> e UID COPY 1:2 Archive2
			<~ e OK \[COPYUID \d+ 1:2 1:2\] .*
			-> f UID COPY 77 Archive2
			<~ f OK COPY completed
			-> g MOVE 1 Archive2
			<~ \* OK \[COPYUID \d+ 1 3\] .*
			<- * 1 EXPUNGE
			<- g OK MOVE completed
			-> h UID MOVE 99 nowhere
			<~ h NO \[TRYCREATE\] .*
			-> i UID EXPUNGE 1:*
			<- i OK UID EXPUNGE completed
			-> j STORE 1 +FLAGS.SILENT (\Deleted)
			<- j OK STORE completed
			-> k UID EXPUNGE 1
			<- k OK UID EXPUNGE completed
			-> l UID EXPUNGE 2
			<- * 1 EXPUNGE
			<- l OK UID EXPUNGE completed
			-> m SELECT Archive2
			<* m OK
			-> n UID STORE 1,3 +FLAGS.SILENT (\Deleted)
			<- n OK UID STORE completed
			-> o EXPUNGE
			<- * 1 EXPUNGE
			<- * 2 EXPUNGE
			<- o OK EXPUNGE completed
			-> p STORE 1 +FLAGS.SILENT (\Deleted)
			<- p OK STORE completed
			-> q CLOSE
			<- q OK CLOSE completed
			-> r STATUS Archive2 (MESSAGES)
			<- * STATUS "Archive2" (MESSAGES 0)
			<- r OK STATUS completed
		`},
		{"mailboxes", `
			-> b CREATE Work/2026
			<- b OK CREATE completed
			-> c CREATE Work/2026
			<~ c NO \[ALREADYEXISTS\] .*
			-> d LIST "" ""
			<- * LIST (\Noselect) "/" ""
			<- d OK LIST completed
			-> e LIST "" Work*
			<~ \* LIST \(.*\\HasChildren.*\) "/" "Work"
			<~ \* LIST \(.*\\HasNoChildren.*\) "/" "Work/2026"
			<- e OK LIST completed
			-> f SUBSCRIBE Work/2026
			<- f OK SUBSCRIBE completed
			-> g LSUB "" Work*
			<- * LSUB () "/" "Work/2026"
			<- g OK LSUB completed
			-> h LSUB "" Work%
			<- * LSUB (\Noselect) "/" "Work"
			<- h OK LSUB completed
			-> i RENAME Work/2026 "Entw&APw-rfe"
			<- i OK RENAME completed
			-> j LIST "" "Entw*" RETURN (STATUS (MESSAGES))
			<~ \* LIST \(.*\) "/" "Entw&APw-rfe"
			<- * STATUS "Entw&APw-rfe" (MESSAGES 0)
			<- j OK LIST completed
			-> k UNSUBSCRIBE Work/2026
			<- k OK UNSUBSCRIBE completed
			-> l DELETE "Entw&APw-rfe"
			<- l OK DELETE completed
			-> m DELETE nowhere
			<~ m NO \[NONEXISTENT\] .*
			-> n DELETE INBOX
			<~ n NO .*
			-> o RENAME nowhere else
			<~ o NO \[NONEXISTENT\] .*
			-> p LIST (SPECIAL-USE) "" *
			<~ \* LIST \(.*\\(Archive|Drafts|Junk|Sent|Trash).*
			<* p OK
			-> q CREATE Paper (USE (\Archive))
			<~ q (OK|NO) .*
			-> r LIST "" (INBOX "Work") RETURN (SUBSCRIBED CHILDREN SPECIAL-USE)
			<* r OK
			-> s CREATE "a\x00b"
			<~ s BAD .*
			-> t CREATE ""
			<~ t (NO|BAD) .*
			-> u LIST "" % RETURN (NONSENSE)
			<~ u BAD .*
			-> w LIST "" (` + strings.Repeat(`x `, 20) + `INBOX)
			<~ w NO \[LIMIT\] .*
			-> v LIST (SUBSCRIBED RECURSIVEMATCH) "" "*"
			<* v OK
		`},
		{"append", `
			-> b APPEND nowhere {10}
			<~ b NO \[TRYCREATE\] .*
			-> c APPEND INBOX (\Seen $Test) "03-Nov-2026 12:00:00 +0100" {25}
			<~ \+ .*
			-> Subject: Appended\r\n\r\nBody
			<~ c OK \[APPENDUID \d+ 3\] .*
			-> d APPEND INBOX {64001}
			<~ d NO \[TOOBIG\] .*
			-> e APPEND INBOX (\Bogus) {4}
			<~ e BAD .*
			-> f APPEND INBOX "yesterday" {4}
			<~ f BAD .*
			-> g APPEND INBOX {13+}
			-> X: CREATE pwned {4}
			<~ g BAD .*
			-> h SELECT INBOX
			<* h OK
			-> i UID FETCH 3 (FLAGS INTERNALDATE BODY.PEEK[])
			<~ \* 3 FETCH \(UID 3 FLAGS \(.*\\Seen.*\) INTERNALDATE " 3-Nov-2026 12:00:00 \+0100" BODY\[\] \{25\}
			<- Subject: Appended
			<-
			<- Body)
			<- i OK UID FETCH completed
			# what is appended to the selected mailbox is told before the OK
			-> j APPEND INBOX {4+}
			-> a: b
			<- * 4 EXISTS
			<~ j OK \[APPENDUID \d+ 4\] .*
			-> k APPEND INBOX ~{6+}
			-> a: b\x00c
			<~ k NO \[UNKNOWN-CTE\] .*
			-> l APPEND INBOX {6+}
			-> a: b\x00c
			<- * 5 EXISTS
			<~ l OK .*
			-> m LIST "" pwned
			<- m OK LIST completed
		`},
		{"syntax errors", `
			-> b
			<~ \* BAD .*
			-> c FROB x
			<~ c BAD .*
			-> d UID FROB 1
			<~ d BAD .*
			-> e SELECT
			<~ e BAD .*
			-> f SELECT a b
			<~ f BAD .*
			-> g STATUS INBOX (FROB)
			<~ g BAD .*
			-> h SELECT "&bad"
			<~ h BAD .*
			-> i FETCH 1 FLAGS
			<~ i BAD .*
			-> j CLOSE
			<~ j BAD .*
			-> k IDLE now
			<~ k BAD .*
			-> l AUTHENTICATE PLAIN
			<~ l BAD .*
			-> m STARTTLS
			<~ m BAD .*
			-> n SELECT INBOX
			<* n OK
			-> o IDLE
			<~ \+ .*
			-> p NOOP
			<~ o BAD .*
			-> q NOOP
			<- q OK NOOP completed
		`},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			user := account(t, s, fmt.Sprintf("user%d", i))
			deliver(t, s, user, simple)
			deliver(t, s, user, multipart)
			login(t, s, user).run(c.script)
		})
	}
}

// TestPipelining sends many commands before reading any answer.
func TestPipelining(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	user := account(t, s, "alice")
	fill(t, s, user, 20)
	c := login(t, s, user)
	var b strings.Builder
	for i := range 200 {
		fmt.Fprintf(&b, "s%d SELECT INBOX\r\nf%d FETCH 1:* (UID FLAGS)\r\n", i, i)
	}
	go c.send(b.String())
	for i := range 200 {
		c.run(fmt.Sprintf("<* s%d OK\n<~ \\* 1 FETCH .*\n<* f%d OK", i, i))
	}
}

// fill delivers n messages.
func fill(t testing.TB, s *core.Server, user string, n int) {
	t.Helper()
	for i := range n {
		deliver(t, s, user, fmt.Sprintf("From: bob@example.org\nSubject: Message %d\n\nBody %d\n", i+1, i+1))
	}
}
