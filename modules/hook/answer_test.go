package hook

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	usualDefer := mail.NewReply(451, 7, 1, "Try again later")
	for text, want := range map[string]mail.Verdict{
		`{"action":"continue"}`: mail.Continue("the hook says continue and gives no reason"),
		"  {\"version\": 1, \"action\": \"accept\", \"reason\": \"friend ☺\"}\n":                         mail.Accept("friend ☺"),
		`{"action":"quarantine","reason":"odd","score":-3.5}`:                                            mail.Quarantine("odd"),
		`{"action":"discard","reason":"noise"}`:                                                          mail.Discard("noise"),
		`{"action":"defer","reason":"wait"}`:                                                             mail.Defer(mail.Reply{}, "wait"),
		`{"action":"defer","reason":"wait","text":"Try again later"}`:                                    mail.Defer(usualDefer, "wait"),
		`{"action":"defer","reason":"wait","code":421}`:                                                  mail.Defer(mail.NewReply(421, 7, 1, usualDefer.Text), "wait"),
		`{"action":"reject","reason":"spam","code":554,"enhanced":"5.6.0","text":"No spam"}`:             mail.Reject(mail.NewReply(554, 6, 0, "No spam"), "spam"),
		`{"action":"reject","reason":"\u0073pam","tags":["a=b"],"add_header":{"X-Judge":"","x-b":"ü"}}x`: {},
	} {
		a, err := parseAnswer([]byte(text), mail.StageData)
		if want == (mail.Verdict{}) {
			if err == nil {
				t.Errorf("%s is an answer", text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, a.verdict()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestAnswersThatLie(t *testing.T) {
	t.Parallel()
	many := func(n int, of string) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(of, i))
		}
		return strings.Join(list, ",")
	}
	for name, test := range map[string]struct{ text, want string }{
		"nothing":             {``, "ends before the end"},
		"white space":         {"  \n", "ends before the end"},
		"garbage":             {"\x00\xff\xfegarbage", "no JSON object"},
		"cut":                 {`{"action":"rej`, "ends before the end"},
		"cut behind a value":  {`{"action":"reject"`, "ends before the end"},
		"list":                {`[]`, "no JSON object"},
		"null":                {`null`, "no JSON object"},
		"string":              {`"reject"`, "no JSON object"},
		"two objects":         {`{"action":"continue"}{"action":"reject"}`, "something follows"},
		"trailing":            {`{"action":"continue"} ok`, "something follows"},
		"empty object":        {`{}`, "action is missing"},
		"empty action":        {`{"action":""}`, "action is missing"},
		"unknown action":      {`{"action":"bounce"}`, `"bounce" is none`},
		"capital action":      {`{"action":"Reject"}`, `"Reject" is none`},
		"unknown member":      {`{"action":"continue","verdict":"ok"}`, `"verdict": there is no such member`},
		"member in capitals":  {`{"action":"continue","Action":"reject"}`, `"Action": there is no such member`},
		"twice":               {`{"action":"continue","action":"reject"}`, `"action" stands twice`},
		"version":             {`{"action":"continue","version":2}`, "version 1"},
		"version as a string": {`{"action":"continue","version":"1"}`, "must be a whole number"},
		"action as a number":  {`{"action":1}`, "must be a string"},
		"null action":         {`{"action":null}`, "must be a string"},
		"code as a string":    {`{"action":"reject","code":"550"}`, "must be a whole number"},
		"broken code":         {`{"action":"reject","code":550.5}`, "must be a whole number"},
		"code of accept":      {`{"action":"accept","code":250}`, "for defer and reject"},
		"text of continue":    {`{"action":"continue","text":"OK"}`, "for defer and reject"},
		"4xx for reject":      {`{"action":"reject","code":450}`, "class 5"},
		"5xx for defer":       {`{"action":"defer","code":550}`, "class 4"},
		"2xx for reject":      {`{"action":"reject","code":250}`, "class 5"},
		"no code":             {`{"action":"reject","code":5}`, "class 5"},
		"negative code":       {`{"action":"reject","code":-550}`, "class 5"},
		"code 599":            {`{"action":"reject","code":599}`, "class 5"},
		"enhanced class":      {`{"action":"reject","enhanced":"4.7.1"}`, "class 5"},
		"enhanced short":      {`{"action":"reject","enhanced":"5.7"}`, "class 5"},
		"enhanced zeros":      {`{"action":"reject","enhanced":"5.07.1"}`, "class 5"},
		"enhanced sign":       {`{"action":"reject","enhanced":"5.+7.1"}`, "class 5"},
		"enhanced large":      {`{"action":"reject","enhanced":"5.7.1000"}`, "class 5"},
		"enhanced text":       {`{"action":"reject","enhanced":"5.7.1\r\n250 OK"}`, "class 5"},
		"text of two lines":   {`{"action":"reject","text":"no\r\n250 2.0.0 OK"}`, "US-ASCII"},
		"text with a tab":     {`{"action":"reject","text":"no\tno"}`, "US-ASCII"},
		"text of stars":       {`{"action":"reject","text":"★"}`, "US-ASCII"},
		"long text":           {`{"action":"reject","text":"` + strings.Repeat("x", maxText+1) + `"}`, "200 bytes"},
		"reason of two lines": {`{"action":"continue","reason":"a\nb"}`, "printable"},
		"reason turned round": {`{"action":"continue","reason":"a\u202eb"}`, "printable"},
		"escape in reason":    {`{"action":"continue","reason":"\u001b[2J"}`, "printable"},
		"long reason":         {`{"action":"continue","reason":"` + strings.Repeat("x", maxReason+1) + `"}`, "400 bytes"},
		"score as a string":   {`{"action":"continue","score":"5"}`, "must be a number"},
		"large score":         {`{"action":"continue","score":1000.5}`, "between"},
		"endless score":       {`{"action":"continue","score":1e999}`, "must be a number"},
		"tags as a string":    {`{"action":"continue","tags":"a"}`, "must be a list"},
		"null tag":            {`{"action":"continue","tags":[null]}`, "is not a word"},
		"empty tag":           {`{"action":"continue","tags":[""]}`, "is not a word"},
		"tag of two":          {`{"action":"continue","tags":["a, b"]}`, "is not a word"},
		"tag of two lines":    {`{"action":"continue","tags":["a\r\nX: y"]}`, "is not a word"},
		"long tag":            {`{"action":"continue","tags":["` + strings.Repeat("x", maxTag+1) + `"]}`, "is not a word"},
		"many tags":           {`{"action":"continue","tags":[` + many(maxTags+1, `"t%d"`) + `]}`, "more than 20"},
		"header as a list":    {`{"action":"continue","add_header":["X-A"]}`, "no JSON object"},
		"header value":        {`{"action":"continue","add_header":{"X-A":1}}`, "must be a string"},
		"header twice":        {`{"action":"continue","add_header":{"X-A":"1","X-A":"2"}}`, "stands twice"},
		"header twice, cases": {`{"action":"continue","add_header":{"X-A":"1","x-a":"2"}}`, "stands twice"},
		"header Received":     {`{"action":"continue","add_header":{"Received":"from x"}}`, "is not X-"},
		"header From":         {`{"action":"continue","add_header":{"From":"x"}}`, "is not X-"},
		"header X-":           {`{"action":"continue","add_header":{"X-":"x"}}`, "is not X-"},
		"header own":          {`{"action":"continue","add_header":{"x-mox-like-Tags":"x"}}`, "server's own"},
		"header name":         {`{"action":"continue","add_header":{"X-A:B":"x"}}`, "is not X-"},
		"header name lines":   {`{"action":"continue","add_header":{"X-A: b\r\nBcc":"x"}}`, "is not X-"},
		"header value lines":  {`{"action":"continue","add_header":{"X-A":"b\r\nBcc: x"}}`, "US-ASCII"},
		"header value fold":   {`{"action":"continue","add_header":{"X-A":"b\r\n c"}}`, "US-ASCII"},
		"long header name":    {`{"action":"continue","add_header":{"X-` + strings.Repeat("x", maxFieldName) + `":"x"}}`, "is not X-"},
		"long header value":   {`{"action":"continue","add_header":{"X-A":"` + strings.Repeat("x", maxFieldValue+1) + `"}}`, "900 bytes"},
		"many headers":        {`{"action":"continue","add_header":{` + many(maxFields+1, `"X-%d":""`) + `}}`, "more than 20"},
		"deep":                {`{"action":"continue","tags":` + strings.Repeat("[", 30_000) + `}`, "tags"},
		"huge":                {`{"action":"continue","reason":"` + strings.Repeat("x", maxAnswer) + `"}`, "longer than 65536"},
	} {
		a, err := parseAnswer([]byte(test.text), mail.StageData)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %+v, error %v, want one with %q", name, a, err, test.want)
		}
		if err != nil && err.Error() != mail.Printable(err.Error(), maxReason) {
			t.Errorf("%s: the error is long or not printable: %q", name, err)
		}
	}
}

func TestAnswersBeforeThereIsAMessage(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		`{"action":"continue","score":1}`:                true,
		`{"action":"reject","code":554}`:                 true,
		`{"action":"quarantine"}`:                        false,
		`{"action":"discard"}`:                           false,
		`{"action":"continue","tags":["a"]}`:             false,
		`{"action":"continue","add_header":{"X-A":"b"}}`: false,
	} {
		for _, stage := range []mail.Stage{mail.StageConnect, mail.StageHelo, mail.StageMail, mail.StageRcpt} {
			if _, err := parseAnswer([]byte(text), stage); (err == nil) != (good || stage >= mail.StageMail) {
				t.Errorf("%s at %s: error %v", text, stage, err)
			}
		}
	}
}

func TestMarks(t *testing.T) {
	t.Parallel()
	a, err := parseAnswer([]byte(`{"action":"continue","score":-1.5,"tags":["judged","class=ham"],"add_header":{"X-Judge":"ham","X-B":"2"}}`), mail.StageData)
	if err != nil {
		t.Fatal(err)
	}
	tx := coretest.Transaction(t, mail.StageData, 1)
	if tx.Message, err = mail.NewMessage([]byte("Subject: a\r\nx-judge: forged\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	a.mark(tx, "judge")
	r, err := tx.Rendered()
	if err != nil {
		t.Fatal(err)
	}
	want := "X-Mox-Like-Tags: judged, class=ham\r\nX-B: 2\r\nX-Judge: ham\r\nSubject: a\r\n\r\n"
	if diff := cmp.Diff(want, string(r.Head())); diff != "" {
		t.Errorf("header section (-want +got):\n%s", diff)
	}
	if tx.Score() != -1.5 {
		t.Errorf("score %g", tx.Score())
	}
}

// FuzzAnswer finds that whatever a hook says is an error or a verdict within the
// rules, and ends no field of the message and no line of a reply.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"action":"continue"}`,
		`{"version":1,"action":"reject","code":550,"enhanced":"5.7.1","text":"No","reason":"spam","score":9.5,"tags":["a=b"],"add_header":{"X-Judge":"spam"}}`,
		`{"action":"defer","code":421,"text":"Later"}`,
		`{"action":"quarantine","reason":"\u202e"}`,
		`{"action":"reject","text":"a\r\n250 OK"}`,
		`{"action":"continue","add_header":{"X-A":"b\r\nBcc: c"}}`,
		`{"action":"continue","action":"reject"}`,
		`{"action":"rej`, `null`, `[]`, ``, "\x00",
	} {
		for stage := range mail.Stage(mail.NumStages) {
			f.Add([]byte(seed), uint8(stage))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, at uint8) {
		stage := mail.Stage(at % mail.NumStages)
		a, err := parseAnswer(text, stage)
		if err != nil {
			if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("error %q", err)
			}
			return
		}
		v := a.verdict()
		if v.Reason == "" || strings.ContainsAny(v.Reason, "\r\n\x1b") {
			t.Errorf("reason %q", v.Reason)
		}
		if line := v.Reply.String(); v.Reply != (mail.Reply{}) && (strings.ContainsAny(line, "\r\n") || len(line) > 250 ||
			v.Reply.Code/100 != v.Reply.Enhanced[0] || (v.Action == mail.ActionReject) != (v.Reply.Code >= 500)) {
			t.Errorf("verdict %s with the reply %q", v.Action, line)
		}
		if stage < mail.StageMail {
			return
		}
		tx := mail.NewTransaction("tx", new(mail.Session), time.Time{})
		if tx.Message, err = mail.NewMessage([]byte("Subject: a\r\n\r\nbody")); err != nil {
			t.Fatal(err)
		}
		a.mark(tx, "judge")
		r, err := tx.Rendered()
		if err != nil {
			t.Fatal(err)
		}
		h, end, err := mail.ParseHeaderSection(r.Head())
		fields := 1 + len(a.fields)
		if len(a.tags) > 0 {
			fields++
		}
		if err != nil || end != len(r.Head()) || len(h.Fields) != fields {
			t.Errorf("header section %q, %v", r.Head(), err)
		}
	})
}
