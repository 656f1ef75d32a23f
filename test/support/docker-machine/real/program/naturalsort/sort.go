// Package naturalsort stands for a module that is not served any more.
package naturalsort

type NaturalSort []string

func (s NaturalSort) Len() int           { return len(s) }
func (s NaturalSort) Less(i, j int) bool { return s[i] < s[j] }
func (s NaturalSort) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
