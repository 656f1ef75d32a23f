// docker-machine with two of its drivers: `generic`, which sets up a host that is there, and `none`. The drivers for clouds want
// libraries of 2016, and nothing here asks a cloud.
package main

import (
	"encoding/gob"
	"fmt"
	"os"
	"path/filepath"

	"github.com/codegangsta/cli"
	"github.com/docker/machine/commands"
	"github.com/docker/machine/commands/mcndirs"
	"github.com/docker/machine/drivers/generic"
	"github.com/docker/machine/drivers/none"
	"github.com/docker/machine/libmachine/drivers/plugin"
	"github.com/docker/machine/libmachine/drivers/plugin/localbinary"
	"github.com/docker/machine/libmachine/log"
	"github.com/docker/machine/version"
)

func main() {
	// Newer versions of the library hand lists over as a type of their own, which the drivers' processes have to know.
	gob.Register(cli.StringSlice{})
	if os.Getenv(localbinary.PluginEnvKey) == localbinary.PluginEnvVal {
		switch os.Getenv(localbinary.PluginEnvDriverName) {
		case "generic":
			plugin.RegisterDriver(generic.NewDriver("", ""))
		case "none":
			plugin.RegisterDriver(none.NewDriver("", ""))
		}
		return
	}
	localbinary.CurrentBinaryIsDockerMachine = true
	log.SetDebug(false)
	app := cli.NewApp()
	app.Name = filepath.Base(os.Args[0])
	app.Commands = commands.Commands
	app.CommandNotFound = func(_ *cli.Context, command string) {
		fmt.Fprintln(os.Stderr, command)
		os.Exit(1)
	}
	app.Version = version.FullVersion()
	app.Flags = []cli.Flag{
		cli.BoolFlag{Name: "debug, D"},
		cli.StringFlag{EnvVar: "MACHINE_STORAGE_PATH", Name: "storage-path, s", Value: mcndirs.GetBaseDir()},
		cli.StringFlag{EnvVar: "MACHINE_TLS_CA_CERT", Name: "tls-ca-cert"},
		cli.StringFlag{EnvVar: "MACHINE_TLS_CA_KEY", Name: "tls-ca-key"},
		cli.StringFlag{EnvVar: "MACHINE_TLS_CLIENT_CERT", Name: "tls-client-cert"},
		cli.StringFlag{EnvVar: "MACHINE_TLS_CLIENT_KEY", Name: "tls-client-key"},
		cli.StringFlag{EnvVar: "MACHINE_GITHUB_API_TOKEN", Name: "github-api-token"},
		cli.BoolFlag{EnvVar: "MACHINE_NATIVE_SSH", Name: "native-ssh"},
		cli.StringFlag{EnvVar: "MACHINE_BUGSNAG_API_TOKEN", Name: "bugsnag-api-token"},
	}
	if err := app.Run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
