package spamassassin

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/mox-like/mox-like/test/daemon"
)

// spamd is the daemon of most of this package's tests, and pupil one that can be
// taught and has a database for each user. They take two seconds to start, so there
// is one for all.
var spamd, pupil *daemon.Daemon

func TestMain(m *testing.M) {
	flag.Parse()
	if worker := flag.Lookup("test.fuzzworker"); worker != nil && worker.Value.String() == "true" {
		os.Exit(m.Run()) // it is killed in the end, and would leave its daemons behind
	}
	code, err := withDaemons(m.Run)
	if err = errors.Join(err, goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// settings make spamd one that asks nobody.
const settings = `
use_bayes 0
required_score 5.0
report_safe 0
`

// settingsOfPupil have Bayes count from the third message of each kind on.
const settingsOfPupil = `
use_bayes 1
bayes_auto_learn 0
bayes_min_ham_num 3
bayes_min_spam_num 3
required_score 5.0
report_safe 0
`

func withDaemons(tests func() int) (code int, err error) {
	var g errgroup.Group
	for d, kind := range map[**daemon.Daemon]daemon.Spamd{
		&spamd: {Settings: settings},
		&pupil: {Settings: settingsOfPupil, Args: []string{"--allow-tell", "--virtual-config-dir=HOME/%u"}},
	} {
		g.Go(func() (err error) {
			*d, err = kind.Start()
			return err
		})
	}
	defer func() { err = errors.Join(err, stop(spamd), stop(pupil)) }()
	if err := g.Wait(); err != nil {
		return 1, err
	}
	return tests(), nil
}

// stop stops a daemon if it runs.
func stop(d *daemon.Daemon) error {
	if d == nil {
		return nil
	}
	return d.Stop()
}
