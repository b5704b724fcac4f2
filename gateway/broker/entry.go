package broker

type entry struct{}
