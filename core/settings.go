package core

import (
	"path/filepath"
	"time"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/mail"
)

// ServerSettings is the server block: what holds for the whole process.
type ServerSettings struct {
	// Hostname is the name by which the server calls itself in greetings and
	// Received fields; the world finds it in the DNS.
	Hostname string `config:"hostname,required" example:"mx1.example.org"`
	// DataDir is where everything lives that the server keeps. A relative path
	// stands beside the configuration file.
	DataDir string `config:"data_dir" default:"/var/lib/mox-like"`
	// User is the system user that the server becomes once its ports are bound. The
	// user must be able to read the configuration and the keys.
	User string `config:"user"`
	// Postmaster is the account that gets mail to postmaster where a domain has
	// neither such an alias nor such an account.
	Postmaster mail.Address `config:"postmaster"`
	// DrainTimeout is how long sessions may go on after SIGTERM.
	DrainTimeout time.Duration `config:"drain_timeout" default:"30s" max:"1h"`
	// ReloadTimeout is how long sessions may go on with the old configuration
	// after a reload.
	ReloadTimeout time.Duration `config:"reload_timeout" default:"10m" max:"24h"`
}

// LogSettings is the log block.
type LogSettings struct {
	// Level is the least severity that is written.
	Level string `config:"level" default:"info" values:"debug,info,warn,error"`
	// Format is console for people and json for programs.
	Format string `config:"format" default:"console" values:"console,json"`
	// Output is stderr, stdout or the path of a file. A relative path stands beside
	// the configuration file. The file is opened again at every reload.
	Output string `config:"output" default:"stderr"`
}

// TraceSettings is the trace block.
type TraceSettings struct {
	// Keep is how long decisions can be looked up.
	Keep time.Duration `config:"keep" default:"14d" min:"1h"`
	// MaxSize is about how much room the traces may take in the database. Beyond
	// it the oldest are removed early. A quarter of it is for the old traces
	// of discarded messages, which no others drive out.
	MaxSize config.Size `config:"max_size" default:"1GiB" min:"1MiB"`
}

// StoreSettings is the block of store "sqlite", the one store of this build.
type StoreSettings struct {
	// Kind is sqlite.
	Kind string `config:"kind,label" values:"sqlite"`
	// BodyLimit is the size up to which a message is kept in the database itself;
	// larger ones are files beside it.
	BodyLimit config.Size `config:"body_limit" default:"128KiB" min:"4KiB" max:"1MiB"`
}

// topLevel is the whole file.
type topLevel struct {
	Server   *ServerSettings `config:"server,block,required"`
	Log      *LogSettings    `config:"log,block"`
	Trace    *TraceSettings  `config:"trace,block"`
	DNS      *dns.Settings   `config:"dns,block"`
	Store    *StoreSettings  `config:"store,block"`
	TLS      []*config.Block `config:"tls,body"`
	Chain    []*config.Block `config:"chain,body"`
	Listener []*config.Block `config:"listener,body"`
	Domain   []*config.Block `config:"domain,body"`
}

// settings is a decoded file: what modules do not decode themselves.
type settings struct {
	topLevel
	file    *config.File
	baseDir string
	domains *Domains
	user    *SystemUser // of the server block, once findUser has found it
	offline bool        // see Options
}

// emptyHostname tells whether the file gives a host name without a letter, and that
// is all that is wrong with the block.
func emptyHostname(server []*config.Block) bool {
	if len(server) == 0 || !server[0].Known() {
		return false
	}
	_, given := server[0].Attribute("hostname")
	return given && !config.Decode(server[0], new(ServerSettings)).HasErrors()
}

// decodeSettings reads what belongs to the core. It goes on after mistakes, so
// that the modules' own are found in the same run; nil means that nothing more
// can be found.
func decodeSettings(file *config.File, dataDir string) (*settings, config.Diagnostics) {
	s := &settings{file: file, baseDir: filepath.Dir(file.Name)}
	ds := config.Decode(file.Root, &s.topLevel)
	config.WithDefaults(&s.Server)
	config.WithDefaults(&s.Log)
	config.WithDefaults(&s.Trace)
	config.WithDefaults(&s.DNS)
	config.WithDefaults(&s.Store)
	if s.Server.Hostname != "" || emptyHostname(file.Root.Blocks("server")) {
		if _, err := mail.ParseDomain(s.Server.Hostname); err != nil {
			r := file.Root.Blocks("server")[0].Place("hostname")
			ds.Errorf(r, "server/bad-hostname", "hostname %q is not a host name", s.Server.Hostname).
				WithDetail("Write the name that the DNS has for this machine, such as \"mx1.example.org\".")
		}
	}
	for _, block := range file.Root.Blocks("dns") {
		ds.Append(s.DNS.Problems().Diagnostics(block, "dns/trust"))
	}
	if dataDir != "" {
		s.Server.DataDir = dataDir
	} else if !filepath.IsAbs(s.Server.DataDir) {
		s.Server.DataDir = filepath.Join(s.baseDir, s.Server.DataDir)
	}
	s.domains = newDomains(s.Server.Hostname, s.Server.Postmaster.Fold().String())
	for _, block := range s.Domain {
		ds.Append(s.domains.add(block))
	}
	return s, ds
}
