package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/spf13/cobra"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
)

// The places where a configuration is looked for.
const (
	localConfig  = "mox-like.hcl"
	systemConfig = "/etc/mox-like/mox-like.hcl"
)

// ConfigOptions say which configuration a command works with.
type ConfigOptions struct {
	// File is the path; "" means that it is looked for.
	File string
	// Variables are of the form name=value, and VariableFiles hold more of them.
	Variables     []string
	VariableFiles []string
}

// add gives a command the flags, and its subcommands too.
func (o *ConfigOptions) add(cmd *cobra.Command) {
	o.addFile(cmd)
	o.addVariables(cmd)
}

func (o *ConfigOptions) addFile(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVarP(&o.File, "config", "c", "", "the configuration `FILE` (default "+localConfig+" here, else "+systemConfig+")")
	_ = cmd.MarkPersistentFlagFilename("config", "hcl")
}

func (o *ConfigOptions) addVariables(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringArrayVar(&o.Variables, "var", nil, "give a variable of the configuration a value, as `NAME=VALUE`; may be repeated")
	flags.StringArrayVar(&o.VariableFiles, "var-file", nil, "read values of variables from the attributes of an HCL `FILE`; may be repeated")
	_ = cmd.MarkPersistentFlagFilename("var-file", "hcl")
}

// file gives the path of the configuration.
func (o *ConfigOptions) file() (string, error) {
	if o.File != "" {
		return o.File, nil
	}
	for _, name := range []string{localConfig, systemConfig} {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
	}
	return "", fmt.Errorf("there is no configuration: neither ./%s nor %s exists. Name the file by --config, or start one with 'mox-like demo --print-config > %s'", localConfig, systemConfig, localConfig)
}

// server gives the options of a server with this configuration.
func (o *ConfigOptions) server() (core.Options, error) {
	file, err := o.file()
	if err == nil {
		err = readable(file)
	}
	if err != nil {
		return core.Options{}, err
	}
	variables, err := o.variables()
	if err != nil {
		return core.Options{}, err
	}
	return core.Options{ConfigFile: file, Config: config.Options{Variables: variables}}, nil
}

// readable tells why a configuration cannot even be read.
func readable(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return f.Close()
}

// variables gathers the values from files and flags; the later ones hold, and
// those of flags before those of files.
func (o *ConfigOptions) variables() (map[string]string, error) {
	values := make(map[string]string)
	for _, name := range o.VariableFiles {
		if err := readVariables(name, values); err != nil {
			return nil, err
		}
	}
	for _, text := range o.Variables {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, badUsage("--var %q is not of the form NAME=VALUE", text)
		}
		values[name] = value
	}
	return values, nil
}

// maxVariables bounds a file of variables, in bytes.
const maxVariables = 1 << 20

// readVariables reads the attributes of a file: texts, numbers and bools as they
// are, lists and maps as the configuration would have them.
func readVariables(name string, values map[string]string) error {
	info, err := os.Stat(name)
	if err == nil && info.Size() > maxVariables {
		err = fmt.Errorf("%s has more than %d bytes", name, maxVariables)
	}
	if err != nil {
		return fmt.Errorf("read variables: %w", err)
	}
	src, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read variables: %w", err)
	}
	file, found := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if found.HasErrors() {
		return fmt.Errorf("read variables: %w", config.FromHCL("config/syntax", found).Err())
	}
	attributes, found := file.Body.JustAttributes()
	if found.HasErrors() {
		return fmt.Errorf("read variables: %w", config.FromHCL("config/syntax", found).Err())
	}
	for _, a := range attributes {
		value, found := a.Expr.Value(nil)
		if found.HasErrors() {
			return fmt.Errorf("read variables: %w", config.FromHCL("config/syntax", found).Err())
		}
		if values[a.Name], err = variableText(value); err != nil {
			return fmt.Errorf("read variables: %s: %s: %w", a.Range, a.Name, err)
		}
	}
	return nil
}

// variableText gives a value as --var has it.
func variableText(value cty.Value) (string, error) {
	if value.IsNull() || !value.IsWhollyKnown() {
		return "", errors.New("the variable needs a value")
	}
	if !value.Type().IsPrimitiveType() {
		return string(hclwrite.TokensForValue(value).Bytes()), nil
	}
	text, err := convert.Convert(value, cty.String)
	if err != nil {
		return "", err
	}
	return text.AsString(), nil
}
