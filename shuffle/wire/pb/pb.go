// Package pb has the control messages of the shuffle protocol, made from messages.proto.
package pb

//go:generate protoc --go_out=. --go_opt=paths=source_relative messages.proto
