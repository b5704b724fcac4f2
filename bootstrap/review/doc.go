// Package review reports the servers and items that clients may reach. It reads the clients,
// roles, servers and policies of a mount, and decides about each pair of a client and a server
// with the same functions as the engine and the gateways. It changes nothing.
//
// [Read] takes a snapshot of a mount, [New] makes a [Review] of it. A review has the rights
// that were not used, as far as the gateways have reported each day, and the commands that
// take them away; [Review.Compare] adds the changes since an earlier one. [Write] writes a
// review as text, CSV, JSON or HTML.
//
// Usage is a hint: a gateway that lies can hide a use, or invent one.
package review
