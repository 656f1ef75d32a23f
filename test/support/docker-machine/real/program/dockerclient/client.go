// Package dockerclient stands for a module that is not served any more. What only swarms need fails.
package dockerclient

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

type AuthConfig struct{ Username, Password, Email string }
type PortBinding struct{ HostIp, HostPort string }
type RestartPolicy struct {
	Name              string
	MaximumRetryCount int64
}
type HostConfig struct {
	Binds         []string
	PortBindings  map[string][]PortBinding
	RestartPolicy RestartPolicy
	NetworkMode   string
}
type ContainerConfig struct {
	Image        string
	Env          []string
	Cmd          []string
	ExposedPorts map[string]struct{}
	HostConfig   HostConfig
}
type Version struct{ ApiVersion, Version string }
type DockerClient struct {
	url    string
	client *http.Client
}

func NewDockerClient(url string, config *tls.Config) (*DockerClient, error) {
	return &DockerClient{strings.Replace(url, "tcp://", "https://", 1), &http.Client{Transport: &http.Transport{TLSClientConfig: config}}}, nil
}
func (d *DockerClient) Version() (*Version, error) {
	r, err := d.client.Get(d.url + "/version")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	v := &Version{}
	return v, json.NewDecoder(r.Body).Decode(v)
}

var no = errors.New("not here")

func (d *DockerClient) PullImage(string, *AuthConfig) error { return no }
func (d *DockerClient) CreateContainer(*ContainerConfig, string, *AuthConfig) (string, error) {
	return "", no
}
func (d *DockerClient) StartContainer(string, *HostConfig) error { return no }
