package e2e

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// reader is a user who reads mail, by go-imap.
type reader struct {
	*imapclient.Client
	user string
}

// insecure takes the server's certificate as it is. That it can be checked is
// shown by curl and mbsync.
var insecure = &tls.Config{InsecureSkipVerify: true}

// read logs in over TLS.
func (p *process) read(t *testing.T, user string) *reader {
	t.Helper()
	conn, err := dialFrom(p.address(t, "imaps"), "")
	if err != nil {
		t.Fatalf("read mail of %s: %v", user, err)
	}
	return readOver(t, conn, user)
}

// readOver logs in over a connection, which has not begun TLS.
func readOver(t *testing.T, conn net.Conn, user string) *reader {
	t.Helper()
	c := imapclient.New(tls.Client(conn, insecure), nil)
	t.Cleanup(func() { _ = c.Close() }) // the server may be gone
	if err := c.Login(user, password).Wait(); err != nil {
		t.Fatalf("log in as %s: %v", user, err)
	}
	return &reader{c, user}
}

// message is what a test wants to know of a message.
type message struct {
	UID   imap.UID
	Flags []imap.Flag // sorted, without \Recent
	Text  string
}

// field gives the value of a header field, "" if it is not there.
func (m message) field(name string) string {
	header, _, _ := strings.Cut(m.Text, "\r\n\r\n")
	unfolded := strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(header)
	for line := range strings.SplitSeq(unfolded, "\r\n") {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(key, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// body gives the text behind the header.
func (m message) body() string {
	_, body, _ := strings.Cut(m.Text, "\r\n\r\n")
	return body
}

// messages reads a mailbox, in the order of the UIDs.
func (r *reader) messages(t *testing.T, mailbox string) []message {
	t.Helper()
	selected, err := r.Select(mailbox, &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		t.Fatalf("select %s of %s: %v", mailbox, r.user, err)
	}
	if selected.NumMessages == 0 {
		return nil
	}
	var all imap.SeqSet
	all.AddRange(1, selected.NumMessages)
	options := &imap.FetchOptions{UID: true, Flags: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}}}
	found, err := r.Fetch(all, options).Collect()
	if err != nil {
		t.Fatalf("fetch %s of %s: %v", mailbox, r.user, err)
	}
	list := make([]message, 0, len(found))
	for _, f := range found {
		m := message{UID: f.UID, Text: string(f.BodySection[0].Bytes)}
		for _, flag := range f.Flags {
			if flag != "\\Recent" {
				m.Flags = append(m.Flags, flag)
			}
		}
		slices.Sort(m.Flags)
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b message) int { return cmp.Compare(a.UID, b.UID) })
	return list
}

// subjects gives the Subject fields of the INBOX, in the order of the UIDs.
func (r *reader) subjects(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, m := range r.messages(t, "INBOX") {
		list = append(list, m.field("Subject"))
	}
	return list
}

// add appends a message to a mailbox.
func (r *reader) add(mailbox, text string, flags ...imap.Flag) error {
	cmd := r.Append(mailbox, int64(len(text)), &imap.AppendOptions{Flags: flags, Time: time.Now()})
	_, err := io.WriteString(cmd, text)
	if err = errors.Join(err, cmd.Close()); err != nil {
		return err
	}
	_, err = cmd.Wait()
	return err
}
