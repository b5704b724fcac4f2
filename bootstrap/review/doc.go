// Package review answers who may reach what. It reads the clients, roles, servers and policies
// of a mount, and decides about each pair of a client and a server with the functions with
// which the engine and the gateways decide. It changes nothing.
//
// [Read] takes a snapshot of a mount, [New] makes a [Review] of it. A review says which rights
// were not used, as far as the gateways have reported each day, and which commands would take
// them away; [Review.Compare] adds what has changed since an earlier one. [Write] writes a
// review as text, CSV, JSON or HTML.
//
// What gateways report of use is a hint: a gateway that lies can hide a use, or invent one.
package review
