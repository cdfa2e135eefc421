package core

import (
	"reflect"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/dns"
)

// BlockType is a block whose settings the core itself decodes.
type BlockType struct {
	// Name is what the block, or the kind of blocks, is called.
	Name string
	// Text says what it is for.
	Text string
	// Settings is the tagged struct.
	Settings reflect.Type
}

// Blocks gives the blocks at the top of the file that belong to the core, and, as
// "listener", "tls" and "handler", what all of these have beside their module's
// own settings. It is for the reference.
func Blocks() []BlockType {
	return []BlockType{
		{"server", "What holds for the whole process. Every file has one.", reflect.TypeFor[ServerSettings]()},
		{"log", "What the server says about itself, and where.", reflect.TypeFor[LogSettings]()},
		{"trace", "What is kept of the decisions of handlers.", reflect.TypeFor[TraceSettings]()},
		{"dns", "Whom the server asks for names and addresses.", reflect.TypeFor[dns.Settings]()},
		{"store", "Where mail, accounts and counters are kept.", reflect.TypeFor[StoreSettings]()},
		{"variable", "A value that is given from outside and used as var.NAME.", reflect.TypeFor[config.Variable]()},
		{"domain", "A domain that lives here.", reflect.TypeFor[Domain]()},
		{"listener", "What every listener has beside the settings of its kind.", reflect.TypeFor[listenerSettings]()},
		{"tls", "What every tls block has beside the settings of its kind.", reflect.TypeFor[tlsLabels]()},
		{"handler", "What every handler has beside the settings of its own.", reflect.TypeFor[handlerSettings]()},
	}
}
