// Package errs is the one error type of Mekong: a kind that each edge maps once (HTTP status, gRPC code, what a
// consumer does), a code for machines and a sentence for people.
//
// Non-obvious: a message never carries personal data or values of the sender; an error without a kind counts as
// Internal and its text is not shown to users.
package errs
