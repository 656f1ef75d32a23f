module docker-machine

go 1.26.0

require (
	github.com/codegangsta/cli v1.20.0
	github.com/docker/machine v0.16.2
)

require (
	github.com/bitly/go-simplejson v0.5.1 // indirect
	github.com/bugsnag/bugsnag-go v1.5.0 // indirect
	github.com/bugsnag/panicwrap v1.2.0 // indirect
	github.com/docker/docker v0.0.0-00010101000000-000000000000 // indirect
	github.com/gofrs/uuid v4.4.0+incompatible // indirect
	github.com/kardianos/osext v0.0.0-20190222173326-2bc1f35cddc0 // indirect
	github.com/samalba/dockerclient v0.0.0-00010101000000-000000000000 // indirect
	github.com/skarademir/naturalsort v0.0.0-00010101000000-000000000000 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	golang.org/x/crypto v0.59.0 // indirect
	golang.org/x/sys v0.50.0 // indirect
	golang.org/x/term v0.48.0 // indirect
)

replace (
	github.com/docker/docker => ./term
	github.com/samalba/dockerclient => ./dockerclient
	github.com/skarademir/naturalsort => ./naturalsort
)
