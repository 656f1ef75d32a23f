module github.com/docker/docker
go 1.20
require golang.org/x/term v0.30.0
