// Package term stands for a module that is served only in versions without it.
package term

import xterm "golang.org/x/term"

type State = xterm.State
type Winsize struct{ Height, Width uint16 }

func IsTerminal(fd uintptr) bool                 { return xterm.IsTerminal(int(fd)) }
func MakeRaw(fd uintptr) (*State, error)         { return xterm.MakeRaw(int(fd)) }
func RestoreTerminal(fd uintptr, s *State) error { return xterm.Restore(int(fd), s) }
func GetWinsize(fd uintptr) (*Winsize, error) {
	w, h, err := xterm.GetSize(int(fd))
	return &Winsize{uint16(h), uint16(w)}, err
}
