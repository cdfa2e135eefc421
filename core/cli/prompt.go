package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/mox-like/mox-like/core/mail"
)

// maxLine bounds what is read from a prompt, in bytes.
const maxLine = 4096

// password reads the new password of an account.
func (o *UserOptions) password(s Streams) (mail.Secret, error) {
	if o.PasswordStdin {
		line, err := readLine(s.In)
		if err != nil {
			return "", fmt.Errorf("read password from the input: %w", err)
		}
		return mail.Secret(line), nil
	}
	f, ok := s.In.(*os.File)
	if !ok || !isTerminal(f) {
		return "", errors.New("there is no terminal to ask for the password: give it to the input with --password-stdin")
	}
	first, err := askHidden(f, s.Err, "Password for "+harmless(o.Address)+": ")
	if err != nil {
		return "", err
	}
	second, err := askHidden(f, s.Err, "The same once more: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ; nothing has changed")
	}
	return first, nil
}

// askHidden reads a line from a terminal without showing it. A signal that ends
// the program turns the echo on again.
func askHidden(terminal *os.File, prompt io.Writer, question string) (mail.Secret, error) {
	fd := int(terminal.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("ask for password: %w", err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	answered := make(chan struct{})
	defer close(answered)
	go func() {
		select {
		case <-signals:
			_ = term.Restore(fd, state)
			fmt.Fprintln(prompt)
			os.Exit(exitFailed)
		case <-answered:
		}
	}()
	fmt.Fprint(prompt, question)
	text, err := term.ReadPassword(fd)
	fmt.Fprintln(prompt)
	if err != nil {
		return "", fmt.Errorf("ask for password: %w", err)
	}
	return mail.Secret(text), nil
}

// confirm asks a question whose answer must be yes.
func confirm(s Streams, question string) error {
	if !isTerminal(s.In) {
		return errors.New("there is no terminal to ask for consent: give it by --yes")
	}
	fmt.Fprintf(s.Err, "%s [y/N] ", question)
	line, err := readLine(s.In)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("not confirmed; nothing has changed")
}

// readLine reads the first line without its end.
func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxLine)).ReadString('\n')
	if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
		return "", err
	}
	if len(line) == maxLine {
		return "", fmt.Errorf("the line has more than %d bytes", maxLine)
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}
