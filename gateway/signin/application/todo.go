package application

import "errors"

var errNotBuilt = errors.New("applications cannot be looked up in this build")

type keySource any
